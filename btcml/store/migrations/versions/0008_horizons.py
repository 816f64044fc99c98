"""Seal forecasts of several candles ahead: each made at the same close as that of the next candle."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

_SERIES = "{0}.market = NEW.market AND {0}.symbol = NEW.symbol AND {0}.interval = NEW.interval"

_KEYS = (
    """ALTER TABLE forecasts DROP CONSTRAINT one_candle_ahead, ADD CONSTRAINT candles_ahead CHECK (
    horizon BETWEEN 1 AND 1000 AND cutoff < open_time - (horizon - 1) * interval_length(interval))""",
    """ALTER TABLE forecasts DROP CONSTRAINT forecasts_market_symbol_interval_open_time_role_model_key,
    ADD CONSTRAINT forecasts_one_each UNIQUE (market, symbol, interval, open_time, horizon, role, model)""",
    "DROP INDEX forecasts_champion",
    """CREATE UNIQUE INDEX forecasts_champion ON forecasts (market, symbol, interval, horizon, open_time)
    WHERE role = 'champion'""",
)

# The open candle, the first of the horizon, says whether a forecast comes in time.
_SEAL = f"""CREATE OR REPLACE FUNCTION seal_forecast() RETURNS trigger LANGUAGE plpgsql
    SET search_path = btcml, pg_temp AS $$
    DECLARE step interval := interval_length(NEW.interval);
      first timestamptz := NEW.open_time - (NEW.horizon - 1) * step;
    BEGIN
      PERFORM pg_advisory_xact_lock(hashtextextended(
        'forecasts ' || NEW.market || '/' || NEW.symbol || '/' || NEW.interval, 0));
      NEW.written_at := clock_timestamp();
      NEW.made_at := seal_time(NEW.market, NEW.written_at);
      IF NEW.made_at >= first + step THEN
        RAISE EXCEPTION 'the candle of % has closed: a forecast of it is no forecast', utc_text(first)
          USING ERRCODE = 'BT001'; END IF;
      IF first > NEW.made_at + step THEN
        RAISE EXCEPTION 'the candle of % is not the next one', utc_text(first) USING ERRCODE = 'BT002'; END IF;
      NEW.status := CASE WHEN NEW.made_at > first + step * 0.2 THEN 'late' ELSE 'sealed' END;
      NEW.hash_version := 2;
      NEW.outcome := coalesce((SELECT o.hash FROM outcomes o WHERE {_SERIES.format("o")}
        ORDER BY o.seq DESC LIMIT 1), '');
      SELECT f.seq + 1, f.hash INTO NEW.seq, NEW.previous FROM forecasts f WHERE {_SERIES.format("f")}
        ORDER BY f.seq DESC LIMIT 1;
      NEW.seq := coalesce(NEW.seq, 1);
      NEW.previous := coalesce(NEW.previous, '');
      NEW.hash := forecast_digest(NEW);
      RETURN NEW;
    END $$"""

_FUTUROS = """CREATE OR REPLACE VIEW futuros AS
    SELECT (open_time AT TIME ZONE 'UTC') AS time, close AS pred_close, real_close,
      CASE WHEN status = 'sealed' THEN close - real_close END AS err_close,
      market, symbol, interval, status AS origin
    FROM forecasts_scored WHERE role = 'champion' AND horizon = 1
    UNION ALL
    SELECT (open_time AT TIME ZONE 'UTC'), pred_close, real_close, err_close, market, symbol, interval, 'imported'
    FROM imported_forecasts"""


def upgrade() -> None:
    """Allow longer horizons in keys and seal; bitcoin-ml's view keeps the next candle."""
    for statement in (*_KEYS, _SEAL, _FUTUROS):
        op.execute(statement)
