"""Storage of candles, forecasts, models and jobs in PostgreSQL."""
