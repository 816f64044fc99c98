# syntax=docker/dockerfile:1
# One image for every service of docker-compose.yml; versions and hashes come from the locks. The base is pinned by
# version; to pin its digest, add the @sha256:... that docker buildx imagetools inspect prints.
FROM python:3.11.14-slim-bookworm AS build
SHELL ["/bin/bash", "-eu", "-o", "pipefail", "-c"]
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_LINK_MODE=copy
WORKDIR /build
COPY requirements.lock requirements.run.lock ./
# The tools that install and build, from the development lock.
RUN python -m venv /opt/tools \
 && awk '/^[^ ]/ {on = /^(uv|hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} on' requirements.lock > tools.txt \
 && /opt/tools/bin/pip install --quiet --require-hashes -r tools.txt
RUN python -m venv --without-pip /opt/btcml \
 && /opt/tools/bin/uv pip sync --quiet --system-certs --require-hashes --compile-bytecode --python /opt/btcml/bin/python requirements.run.lock
COPY . .
RUN /opt/tools/bin/python -m hatchling build -t wheel \
 && /opt/tools/bin/uv pip install --quiet --no-deps --offline --compile-bytecode --python /opt/btcml/bin/python dist/*.whl

FROM python:3.11.14-slim-bookworm
# LightGBM's wheel expects the system's OpenMP.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 btcml \
 && useradd --uid 10001 --gid btcml --no-create-home --home-dir /tmp --shell /usr/sbin/nologin btcml \
 && install --directory --owner btcml --group btcml /data /data/models /data/state /data/reports /data/backups
COPY --from=build /opt/btcml /opt/btcml
ENV PATH=/opt/btcml/bin:$PATH HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TZ=UTC \
    BTCML_HOME=/data/state MODELS_DIR=/data/models
USER 10001:10001
WORKDIR /tmp
CMD ["btcml", "--help"]
