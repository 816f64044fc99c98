"""Where candles come from: the exchange, its archive, a simulated market, files, a replay exchange."""
