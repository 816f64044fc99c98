"""Sealed outcomes, revisions and clocks that only the database writes, and the least rights for each role."""

from __future__ import annotations

from alembic import op

from btcml.candles import COLUMNS, INTERVALS

revision = "0005"
down_revision = "0004"

_KEY = 'market text COLLATE "C" NOT NULL, symbol text COLLATE "C" NOT NULL, interval text COLLATE "C" NOT NULL'
_VALUES = ", ".join(COLUMNS[1:])
_PATH = "SET search_path = btcml, pg_temp"
_DEFINER = f"LANGUAGE plpgsql SECURITY DEFINER {_PATH}"
_STEPS = " ".join(f"WHEN '{name}' THEN interval '{int(d.total_seconds())} s'" for name, d in INTERVALS.items())
_SERIES = "{0}.market = {1}.market AND {0}.symbol = {1}.symbol AND {0}.interval = {1}.interval"

_VIEWS = ("DROP VIEW futuros", "DROP VIEW forecasts_scored")

# The clock of a market is its newest row. A replay's is set once; Binance's is measured again, and a measurement has
# to agree with now() or to go on from what was measured before.
_CLOCK = (
    "DROP TRIGGER market_clocks_immutable ON market_clocks",
    "DROP FUNCTION refuse_clock()",
    "ALTER TABLE market_clocks DROP CONSTRAINT market_clocks_pkey",
    "ALTER TABLE market_clocks ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "CREATE INDEX market_clocks_newest ON market_clocks (market, id DESC)",
    f"""CREATE OR REPLACE FUNCTION interval_length(i text) RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT CASE i {_STEPS} END $$""",
    f"""CREATE FUNCTION market_at(m text, real_time timestamptz) RETURNS timestamptz LANGUAGE sql STABLE {_PATH}
    AS $$ SELECT coalesce((SELECT c.origin_market + (real_time - c.origin_real) * c.speed FROM market_clocks c
      WHERE id = coalesce((SELECT max(id) FROM market_clocks WHERE market = m AND origin_real <= real_time),
        (SELECT min(id) FROM market_clocks WHERE market = m))), real_time) $$""",
    f"""CREATE OR REPLACE FUNCTION market_now(m text) RETURNS timestamptz LANGUAGE sql VOLATILE {_PATH}
    AS $$ SELECT market_at(m, clock_timestamp()) $$""",
    f"""CREATE FUNCTION seal_time(m text, real_time timestamptz) RETURNS timestamptz LANGUAGE sql STABLE {_PATH}
    AS $$ SELECT CASE m WHEN 'binance' THEN greatest(market_at(m, real_time), real_time)
      ELSE market_at(m, real_time) END $$""",
    f"""CREATE FUNCTION clock_offset(c market_clocks) RETURNS double precision LANGUAGE sql IMMUTABLE {_PATH}
    AS $$ SELECT extract(epoch FROM c.origin_market - c.origin_real)::double precision $$""",
    f"""CREATE FUNCTION clock_jumps(c market_clocks) RETURNS boolean LANGUAGE sql STABLE {_PATH} AS $$
      SELECT (c.market <> 'binance' OR abs(clock_offset(c)) > 5) AND EXISTS (
        SELECT FROM market_clocks p WHERE p.market = c.market AND p.id < c.id
        AND (c.market <> 'binance' OR abs(clock_offset(p) - clock_offset(c)) > 5)
        AND (p.origin_real > c.origin_real - interval '1 hour'
          OR p.id = (SELECT max(id) FROM market_clocks WHERE market = c.market AND id < c.id))) $$""",
    f"""CREATE FUNCTION record_clock(m text, market_time timestamptz, asked_at timestamptz, ratio double precision)
    RETURNS void {_DEFINER} AS $$
    DECLARE known market_clocks; made market_clocks;
    BEGIN
      IF clock_timestamp() - asked_at NOT BETWEEN interval '0' AND interval '30 s' THEN
        RAISE EXCEPTION 'a measurement of a clock must be at most 30 s old, found %', clock_timestamp() - asked_at
          USING ERRCODE = 'BT005'; END IF;
      PERFORM pg_advisory_xact_lock(hashtextextended('clock ' || m, 0));
      SELECT * INTO known FROM market_clocks WHERE market = m ORDER BY id DESC LIMIT 1;
      IF known.id IS NOT NULL AND (m <> 'binance'
        OR abs(extract(epoch FROM market_time - asked_at) - clock_offset(known)) < 0.25) THEN RETURN; END IF;
      INSERT INTO market_clocks (market, origin_market, origin_real, speed)
        VALUES (m, market_time, asked_at, ratio) RETURNING * INTO made;
      IF clock_jumps(made) THEN
        RAISE EXCEPTION 'the clock of % moved by % s against the database''s clock: set the machine''s clock', m,
          round((clock_offset(made) - clock_offset(known))::numeric, 1) USING ERRCODE = 'BT003'; END IF;
    END $$""",
)

# The canonical bytes of a row since version 2: each column as its length, a colon and its text, a null as a minus
# sign, joined by commas. Horizons and quantiles have their place already.
_DIGESTS = (
    """ALTER TABLE forecasts ADD COLUMN hash_version smallint NOT NULL DEFAULT 1 CHECK (hash_version IN (1, 2)),
    ADD COLUMN horizon integer NOT NULL DEFAULT 1 CONSTRAINT one_candle_ahead CHECK (horizon = 1),
    ADD COLUMN levels double precision[], ADD COLUMN quantiles double precision[],
    ADD COLUMN written_at timestamptz, ADD COLUMN outcome text,
    ADD CHECK (cardinality(levels) = cardinality(quantiles)),
    ADD CHECK (hash_version = 1 OR (written_at IS NOT NULL AND outcome IS NOT NULL))""",
    f"""CREATE TABLE outcomes (
    {_KEY}, seq bigint NOT NULL CHECK (seq > 0), open_time timestamptz NOT NULL,
    open double precision NOT NULL, high double precision NOT NULL, low double precision NOT NULL,
    close double precision NOT NULL, known_at timestamptz NOT NULL, forecast_seq bigint, forecast_hash text,
    hash_version smallint NOT NULL DEFAULT 2 CHECK (hash_version = 2), previous text NOT NULL,
    hash text NOT NULL CHECK (hash ~ '^[0-9a-f]{{64}}$'),
    PRIMARY KEY (market, symbol, interval, seq), UNIQUE (market, symbol, interval, open_time))""",
    f"""CREATE FUNCTION bits(x double precision[]) RETURNS text LANGUAGE sql IMMUTABLE {_PATH} AS $$
      SELECT string_agg(bits(v), ' ' ORDER BY n) FROM unnest(x) WITH ORDINALITY u(v, n) $$""",
    f"""CREATE FUNCTION row_digest(VARIADIC parts text[]) RETURNS text LANGUAGE sql IMMUTABLE {_PATH} AS $$
      SELECT encode(sha256(convert_to(string_agg(coalesce(length(p) || ':' || p, '-'), ',' ORDER BY n), 'UTF8')), 'hex')
      FROM unnest(parts) WITH ORDINALITY u(p, n) $$""",
    f"""CREATE OR REPLACE FUNCTION forecast_digest(f forecasts) RETURNS text LANGUAGE sql IMMUTABLE {_PATH} AS $$
      SELECT CASE f.hash_version WHEN 1 THEN encode(sha256(convert_to(array_to_string(ARRAY[
        f.market, f.symbol, f.interval, f.seq::text, utc_text(f.open_time), f.role, f.model, f.artifact,
        utc_text(f.cutoff), bits(f.base), bits(f.open), bits(f.high), bits(f.low), bits(f.close), bits(f.amp),
        bits(f.lo), bits(f.hi), bits(f.prob_up), utc_text(f.made_at), f.status, f.previous],
        '|', ''), 'UTF8')), 'hex')
      ELSE row_digest('forecast', f.hash_version::text, f.market, f.symbol, f.interval, f.seq::text,
        utc_text(f.open_time), f.horizon::text, f.role, f.model, f.artifact, utc_text(f.cutoff),
        bits(f.base), bits(f.open), bits(f.high), bits(f.low), bits(f.close), bits(f.amp), bits(f.lo), bits(f.hi),
        bits(f.prob_up), bits(f.levels), bits(f.quantiles), utc_text(f.made_at), utc_text(f.written_at), f.status,
        f.outcome, f.previous) END $$""",
    f"""CREATE FUNCTION outcome_digest(o outcomes) RETURNS text LANGUAGE sql IMMUTABLE {_PATH} AS $$
      SELECT row_digest('outcome', o.hash_version::text, o.market, o.symbol, o.interval, o.seq::text,
        utc_text(o.open_time), bits(o.open), bits(o.high), bits(o.low), bits(o.close), utc_text(o.known_at),
        o.forecast_seq::text, o.forecast_hash, o.previous) $$""",
)

_SEAL = f"""CREATE OR REPLACE FUNCTION seal_forecast() RETURNS trigger LANGUAGE plpgsql {_PATH} AS $$
    DECLARE step interval := interval_length(NEW.interval);
    BEGIN
      PERFORM pg_advisory_xact_lock(hashtextextended(
        'forecasts ' || NEW.market || '/' || NEW.symbol || '/' || NEW.interval, 0));
      NEW.written_at := clock_timestamp();
      NEW.made_at := seal_time(NEW.market, NEW.written_at);
      IF NEW.made_at >= NEW.open_time + step THEN
        RAISE EXCEPTION 'the candle of % has closed: a forecast of it is no forecast', utc_text(NEW.open_time)
          USING ERRCODE = 'BT001'; END IF;
      IF NEW.open_time > NEW.made_at + step THEN
        RAISE EXCEPTION 'the candle of % is not the next one', utc_text(NEW.open_time) USING ERRCODE = 'BT002'; END IF;
      NEW.status := CASE WHEN NEW.made_at > NEW.open_time + step * 0.2 THEN 'late' ELSE 'sealed' END;
      NEW.hash_version := 2;
      NEW.outcome := coalesce((SELECT o.hash FROM outcomes o WHERE {_SERIES.format("o", "NEW")}
        ORDER BY o.seq DESC LIMIT 1), '');
      SELECT f.seq + 1, f.hash INTO NEW.seq, NEW.previous FROM forecasts f WHERE {_SERIES.format("f", "NEW")}
        ORDER BY f.seq DESC LIMIT 1;
      NEW.seq := coalesce(NEW.seq, 1);
      NEW.previous := coalesce(NEW.previous, '');
      NEW.hash := forecast_digest(NEW);
      RETURN NEW;
    END $$"""

# Every candle from the first forecast of a series on has an outcome: its values when it was first known to be final,
# and the newest forecast of it at that moment. Replays may run 5 s of real time apart from their recorded clock.
# Sorted by seq + 0, a forecast is found by the index of open_time; series are listed by jumps along the primary key.
_OUTCOMES = (
    f"""CREATE FUNCTION seal_outcomes(k outcomes, since timestamptz) RETURNS void {_DEFINER} AS $$
    DECLARE
      c candles; made outcomes := k; last timestamptz; first timestamptz;
      now timestamptz := market_now(k.market);
      final timestamptz := now - interval_length(k.interval) + interval '5 s' * greatest(1,
        (SELECT speed FROM market_clocks WHERE market = k.market ORDER BY id DESC LIMIT 1));
    BEGIN
      PERFORM pg_advisory_xact_lock(hashtextextended(
        'outcomes ' || k.market || '/' || k.symbol || '/' || k.interval, 0));
      SELECT min(f.open_time) INTO first FROM forecasts f WHERE {_SERIES.format("f", "k")};
      SELECT max(o.open_time) INTO last FROM outcomes o WHERE {_SERIES.format("o", "k")};
      SELECT o.seq, o.hash INTO made.seq, made.hash FROM outcomes o WHERE {_SERIES.format("o", "k")}
        ORDER BY o.seq DESC LIMIT 1;
      made.hash_version := 2;
      FOR c IN SELECT * FROM candles n WHERE {_SERIES.format("n", "k")}
        AND n.open_time BETWEEN greatest(first, least(last, since)) AND final
        AND NOT EXISTS (SELECT FROM outcomes o WHERE {_SERIES.format("o", "n")} AND o.open_time = n.open_time)
        ORDER BY n.open_time
      LOOP
        made.seq := coalesce(made.seq, 0) + 1;
        made.previous := coalesce(made.hash, '');
        made.open_time := c.open_time;
        made.open := c.open; made.high := c.high; made.low := c.low; made.close := c.close;
        made.known_at := now;
        made.forecast_seq := NULL; made.forecast_hash := NULL;
        SELECT f.seq, f.hash INTO made.forecast_seq, made.forecast_hash FROM forecasts f
          WHERE {_SERIES.format("f", "k")} AND f.open_time = c.open_time ORDER BY f.seq + 0 DESC LIMIT 1;
        made.hash := outcome_digest(made);
        INSERT INTO outcomes VALUES (made.*);
      END LOOP;
    END $$""",
    f"""CREATE FUNCTION candles_added() RETURNS trigger {_DEFINER} AS $$
    DECLARE k outcomes; first timestamptz;
    BEGIN
      k.market := ''; k.symbol := ''; k.interval := '';
      LOOP
        SELECT f.market, f.symbol, f.interval INTO k.market, k.symbol, k.interval FROM forecasts f
          WHERE (f.market, f.symbol, f.interval) > (k.market, k.symbol, k.interval)
          ORDER BY f.market, f.symbol, f.interval LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT min(a.open_time) INTO first FROM added a WHERE {_SERIES.format("a", "k")};
        IF first IS NOT NULL THEN PERFORM seal_outcomes(k, first); END IF;
      END LOOP;
      RETURN NULL;
    END $$""",
    """CREATE TRIGGER candles_outcomes AFTER INSERT ON candles REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION candles_added()""",
    f"""CREATE FUNCTION keep_revisions() RETURNS trigger {_DEFINER} AS $$ BEGIN
      INSERT INTO candle_revisions (market, symbol, interval, open_time, {_VALUES}, source, seen_at)
      SELECT o.*, coalesce(nullif(current_setting('btcml.source', true), ''), session_user), m.at
      FROM (TABLE replaced EXCEPT TABLE current) o JOIN
        (SELECT market, market_now(market) AS at FROM (SELECT DISTINCT market FROM replaced) d) m USING (market)
      ORDER BY o.open_time;
      RETURN NULL; END $$""",
    """CREATE TRIGGER candles_revised AFTER UPDATE ON candles REFERENCING OLD TABLE AS replaced NEW TABLE AS current
    FOR EACH STATEMENT EXECUTE FUNCTION keep_revisions()""",
    # Each write of candles names its source in the setting btcml.source; NOT VALID, so that pg_restore adds it last.
    """ALTER TABLE candles ADD CONSTRAINT real_candles_stay_real_candles CHECK (coalesce(
      nullif(current_setting('btcml.source', true), '') = market OR (
        nullif(current_setting('btcml.source', true), '') <> 'simulated'
        AND nullif(current_setting('btcml.source', true), '') NOT LIKE 'replay:%'), market <> 'binance')) NOT VALID""",
)

_APPEND_ONLY = (
    """CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE EXCEPTION '% are sealed: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'BT004'; END $$""",
    *(
        f"""CREATE TRIGGER {table}_sealed BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"""
        for table in ("outcomes", "candle_revisions", "market_clocks")
    ),
)

_SCORED = (
    f"""CREATE VIEW forecasts_scored AS
    SELECT f.*, o.open AS real_open, o.high AS real_high, o.low AS real_low, o.close AS real_close,
      CASE WHEN f.status = 'sealed' THEN 1e4 * abs(ln(f.close / o.close)) END AS error_bp,
      CASE WHEN f.status = 'sealed' THEN 1e4 * abs(ln(f.base / o.close)) END AS persistence_error_bp
    FROM forecasts f LEFT JOIN outcomes o
    ON {_SERIES.format("o", "f")} AND o.open_time = f.open_time AND f.seq <= o.forecast_seq""",
    """CREATE VIEW futuros AS
    SELECT (open_time AT TIME ZONE 'UTC') AS time, close AS pred_close, real_close,
      CASE WHEN status = 'sealed' THEN close - real_close END AS err_close,
      market, symbol, interval, status AS origin
    FROM forecasts_scored WHERE role = 'champion'
    UNION ALL
    SELECT (open_time AT TIME ZONE 'UTC'), pred_close, real_close, err_close, market, symbol, interval, 'imported'
    FROM imported_forecasts""",
)

# What is sealed before this version gets its outcomes now, from the candles as they are.
_KNOWN = """DO $$ DECLARE k outcomes; BEGIN
  FOR k.market, k.symbol, k.interval IN SELECT DISTINCT market, symbol, interval FROM forecasts
  LOOP PERFORM seal_outcomes(k, '-infinity'); END LOOP; END $$"""

_GIVEN = (
    "market, symbol, interval, open_time, horizon, role, model, artifact, cutoff, base, open, high, low, close, amp, "
    "lo, hi, prob_up, levels, quantiles"
)

_RIGHTS = (
    "ALTER TABLE models ADD COLUMN manifest text CHECK (manifest ~ '^[0-9a-f]{64}$')",
    "REVOKE ALL ON ALL TABLES IN SCHEMA btcml FROM btcml_app, btcml_read",
    "GRANT SELECT ON ALL TABLES IN SCHEMA btcml TO btcml_app, btcml_read",
    """GRANT INSERT ON bans, candles, gaps, imported_forecasts, jobs, models, quarantine, snapshots, trials
    TO btcml_app""",
    f"GRANT INSERT ({_GIVEN}) ON forecasts TO btcml_app",
    f"GRANT UPDATE ({_VALUES}) ON candles TO btcml_app",
    "GRANT UPDATE (released_at) ON quarantine TO btcml_app",
    'GRANT DELETE, UPDATE ("end", missing, checked_at) ON gaps TO btcml_app',
    "GRANT UPDATE (until, reason, seen_at) ON bans TO btcml_app",
    "GRANT UPDATE (status, started_at, finished_at, result, error, error_status) ON jobs TO btcml_app",
    "GRANT UPDATE (role, kept) ON models TO btcml_app",
    *(
        f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC"
        for function in (
            "analyze_candles()",
            "record_clock(text, timestamptz, timestamptz, double precision)",
            "seal_outcomes(outcomes, timestamptz)",
            "candles_added()",
            "keep_revisions()",
        )
    ),
    "GRANT EXECUTE ON FUNCTION analyze_candles() TO btcml_app",
    "GRANT EXECUTE ON FUNCTION record_clock(text, timestamptz, timestamptz, double precision) TO btcml_app",
)


def upgrade() -> None:
    """Seal the outcomes of what was forecast, and narrow the roles' rights."""
    for statement in (*_VIEWS, *_CLOCK, *_DIGESTS, _SEAL, *_OUTCOMES, _KNOWN, *_APPEND_ONLY, *_SCORED, *_RIGHTS):
        op.execute(statement)
