"""Where candles, forecasts, models and jobs rest: PostgreSQL, and only PostgreSQL."""
