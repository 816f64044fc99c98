"""The service's memory: jobs, models, market clocks, and forecasts that nobody can change."""

from __future__ import annotations

from alembic import op

from btcml.candles import INTERVALS

revision = "0002"
down_revision = "0001"

_KEY = 'market text COLLATE "C" NOT NULL, symbol text COLLATE "C" NOT NULL, interval text COLLATE "C" NOT NULL'

_TABLES = (
    f"""CREATE TABLE jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text NOT NULL
        CHECK (kind IN ('ingest', 'train', 'backfill', 'forecast')),
    {_KEY}, parameters jsonb NOT NULL DEFAULT '{{}}', asked_by text NOT NULL, request_id text,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'ok', 'error', 'missed', 'abandoned')),
    due_at timestamptz, missed bigint NOT NULL DEFAULT 0 CHECK (missed >= 0), attempt integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(), started_at timestamptz, finished_at timestamptz,
    result jsonb, error text, error_status integer,
    CHECK ((status IN ('queued', 'running')) = (finished_at IS NULL)))""",
    "CREATE INDEX jobs_newest ON jobs (kind, market, symbol, interval, id DESC)",
    """CREATE UNIQUE INDEX jobs_due ON jobs (kind, market, symbol, interval, due_at, attempt)
    WHERE due_at IS NOT NULL""",
    f"""CREATE TABLE models (
    artifact text NOT NULL CHECK (artifact ~ '^[0-9A-Za-z.-]{{8,80}}$'), name text NOT NULL, {_KEY},
    role text NOT NULL CHECK (role IN ('champion', 'challenger', 'retired')),
    trained_at timestamptz NOT NULL, snapshot text NOT NULL, window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL, samples bigint NOT NULL, metrics jsonb NOT NULL, verdict jsonb NOT NULL,
    judged_at timestamptz, bytes bigint NOT NULL, kept boolean NOT NULL DEFAULT true,
    PRIMARY KEY (artifact, name))""",
    "CREATE UNIQUE INDEX models_champion ON models (market, symbol, interval) WHERE role = 'champion'",
    "CREATE INDEX models_newest ON models (market, symbol, interval, trained_at DESC)",
    """CREATE TABLE market_clocks (
    market text COLLATE "C" PRIMARY KEY, origin_market timestamptz NOT NULL, origin_real timestamptz NOT NULL,
    speed double precision NOT NULL CHECK (speed >= 0 AND speed <= 100000),
    CHECK (market LIKE 'replay:%' OR (market = 'binance' AND speed = 1
        AND abs(extract(epoch FROM origin_market - origin_real)) <= 60)))""",
    f"""CREATE TABLE forecasts (
    {_KEY}, seq bigint NOT NULL CHECK (seq > 0), open_time timestamptz NOT NULL,
    role text NOT NULL CHECK (role IN ('champion', 'challenger')), model text NOT NULL, artifact text NOT NULL,
    cutoff timestamptz NOT NULL, base double precision NOT NULL CHECK (base > 0),
    open double precision, high double precision, low double precision,
    close double precision NOT NULL CHECK (close > 0 AND close < 'Infinity'), amp double precision,
    lo double precision, hi double precision, prob_up double precision CHECK (prob_up BETWEEN 0 AND 1),
    made_at timestamptz NOT NULL, status text NOT NULL CHECK (status IN ('sealed', 'late')),
    previous text NOT NULL, hash text NOT NULL CHECK (hash ~ '^[0-9a-f]{{64}}$'),
    PRIMARY KEY (market, symbol, interval, seq), UNIQUE (market, symbol, interval, open_time, role, model),
    CHECK (on_grid(open_time, interval)), CHECK (cutoff < open_time), CHECK (lo <= hi),
    CHECK (high >= greatest(open, close) AND low <= least(open, close)))""",
    """CREATE UNIQUE INDEX forecasts_champion ON forecasts (market, symbol, interval, open_time)
    WHERE role = 'champion'""",
    f"""CREATE TABLE imported_forecasts (
    {_KEY}, source text NOT NULL, open_time timestamptz NOT NULL, pred_close double precision NOT NULL,
    real_close double precision, err_close double precision, imported_at timestamptz NOT NULL,
    PRIMARY KEY (market, symbol, interval, source, open_time))""",
)

_STEPS = " ".join(f"WHEN '{name}' THEN interval '{int(d.total_seconds())} s'" for name, d in INTERVALS.items())

_CLOCK = (
    f"""CREATE FUNCTION interval_length(i text) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE i {_STEPS} END $$""",
    """CREATE FUNCTION market_now(m text) RETURNS timestamptz LANGUAGE sql VOLATILE SET search_path = btcml, pg_temp
    AS $$ SELECT coalesce((SELECT origin_market + (clock_timestamp() - origin_real) * speed
                           FROM market_clocks WHERE market = m), clock_timestamp()) $$""",
    """CREATE FUNCTION refuse_clock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF TG_OP = 'UPDATE' AND OLD.market = 'binance' AND NEW.market = 'binance' THEN RETURN NEW; END IF;
      RAISE EXCEPTION 'the clock of % is set once: give the replay another name', OLD.market
        USING ERRCODE = 'BT003'; END $$""",
    """CREATE TRIGGER market_clocks_immutable BEFORE UPDATE OR DELETE ON market_clocks
    FOR EACH ROW EXECUTE FUNCTION refuse_clock()""",
)

# The canonical bytes of a row: every column but the hash, in UTC and IEEE 754, joined by a bar.
_DIGEST = """CREATE FUNCTION forecast_digest(f forecasts) RETURNS text LANGUAGE sql IMMUTABLE
SET search_path = btcml, pg_temp AS $$
  SELECT encode(sha256(convert_to(array_to_string(ARRAY[
    f.market, f.symbol, f.interval, f.seq::text, utc_text(f.open_time), f.role, f.model, f.artifact,
    utc_text(f.cutoff), bits(f.base), bits(f.open), bits(f.high), bits(f.low), bits(f.close), bits(f.amp),
    bits(f.lo), bits(f.hi), bits(f.prob_up), utc_text(f.made_at), f.status, f.previous],
    '|', ''), 'UTF8')), 'hex') $$"""

_SEAL = (
    """CREATE FUNCTION utc_text(t timestamptz) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$""",
    """CREATE FUNCTION bits(x double precision) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT encode(float8send(x), 'hex') $$""",
    _DIGEST,
    """CREATE FUNCTION seal_forecast() RETURNS trigger LANGUAGE plpgsql SET search_path = btcml, pg_temp AS $$
    DECLARE step interval := interval_length(NEW.interval);
    BEGIN
      PERFORM pg_advisory_xact_lock(hashtextextended(
        'forecasts ' || NEW.market || '/' || NEW.symbol || '/' || NEW.interval, 0));
      NEW.made_at := market_now(NEW.market);
      IF NEW.made_at >= NEW.open_time + step THEN
        RAISE EXCEPTION 'the candle of % has closed: a forecast of it is no forecast', utc_text(NEW.open_time)
          USING ERRCODE = 'BT001'; END IF;
      IF NEW.open_time > NEW.made_at + step THEN
        RAISE EXCEPTION 'the candle of % is not the next one', utc_text(NEW.open_time) USING ERRCODE = 'BT002'; END IF;
      NEW.status := CASE WHEN NEW.made_at > NEW.open_time + step * 0.2 THEN 'late' ELSE 'sealed' END;
      SELECT f.seq + 1, f.hash INTO NEW.seq, NEW.previous FROM forecasts f
        WHERE f.market = NEW.market AND f.symbol = NEW.symbol AND f.interval = NEW.interval
        ORDER BY f.seq DESC LIMIT 1;
      NEW.seq := coalesce(NEW.seq, 1);
      NEW.previous := coalesce(NEW.previous, '');
      NEW.hash := forecast_digest(NEW);
      RETURN NEW;
    END $$""",
    "CREATE TRIGGER forecasts_seal BEFORE INSERT ON forecasts FOR EACH ROW EXECUTE FUNCTION seal_forecast()",
    """CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE EXCEPTION 'forecasts are sealed: % is refused', TG_OP USING ERRCODE = 'BT004'; END $$""",
    """CREATE TRIGGER forecasts_sealed BEFORE UPDATE OR DELETE OR TRUNCATE ON forecasts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()""",
)

_SAME = "c.market = f.market AND c.symbol = f.symbol AND c.interval = f.interval AND c.open_time = f.open_time"

_VIEWS = (
    f"""CREATE VIEW forecasts_scored AS
    SELECT f.*, c.open AS real_open, c.high AS real_high, c.low AS real_low, c.close AS real_close,
      CASE WHEN f.status = 'sealed' THEN 1e4 * abs(ln(f.close / c.close)) END AS error_bp,
      CASE WHEN f.status = 'sealed' THEN 1e4 * abs(ln(f.base / c.close)) END AS persistence_error_bp
    FROM forecasts f LEFT JOIN candles c ON {_SAME}""",
    """CREATE VIEW futuros AS
    SELECT (open_time AT TIME ZONE 'UTC') AS time, close AS pred_close, real_close,
      CASE WHEN status = 'sealed' THEN close - real_close END AS err_close,
      market, symbol, interval, status AS origin
    FROM forecasts_scored WHERE role = 'champion'
    UNION ALL
    SELECT (open_time AT TIME ZONE 'UTC'), pred_close, real_close, err_close, market, symbol, interval, 'imported'
    FROM imported_forecasts""",
    """CREATE VIEW job_logs AS
    SELECT id, kind AS job_name, status,
      coalesce(error, (SELECT string_agg(key || ' ' || value, '; ' ORDER BY key) FROM jsonb_each_text(result)), '')
        AS message,
      (started_at AT TIME ZONE 'UTC') AS started_at, (finished_at AT TIME ZONE 'UTC') AS finished_at,
      market, symbol, interval
    FROM jobs""",
)

_NOTICES = (
    """CREATE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_notify('btcml', TG_TABLE_NAME); RETURN NULL; END $$""",
    *(
        f"""CREATE TRIGGER {table}_tell AFTER INSERT OR UPDATE OR DELETE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION tell_change()"""
        for table in ("candles", "models", "forecasts", "imported_forecasts", "jobs")
    ),
)

_GRANTS = (
    """GRANT SELECT ON jobs, models, market_clocks, forecasts, imported_forecasts, forecasts_scored, futuros, job_logs
    TO btcml_app, btcml_read""",
    "GRANT INSERT ON jobs, models, market_clocks, forecasts, imported_forecasts TO btcml_app",
    "GRANT UPDATE ON jobs, models, market_clocks TO btcml_app",
)


def upgrade() -> None:
    """Make the tables, the seal and the views."""
    for statement in (*_TABLES, *_CLOCK, *_SEAL, *_VIEWS, *_NOTICES, *_GRANTS):
        op.execute(statement)
