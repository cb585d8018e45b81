# decision-service, one container: two stages, a non-root user, kernels compiled at build time.
#
#   docker build -t decision-service --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:<digest> .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -p 8000:8000 \
#     -v decision-data:/data -e DECISION_SERVICE_KEYS_FILE=/run/secrets/keys decision-service
#
# A release names the base image by its digest; without one the newest patch of that tag is taken. The root file system
# may be read-only: only /data and /tmp are written. What is installed is listed in /opt/venv/sbom.cdx.json, and a
# package that is not in the lock file fails the build.
#
# Without authentication the service refuses every address but loopback, so a published port needs keys or a JWKS.
# Without a Redis URL it keeps its own Valkey in /data: mount a volume there.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --require-hashes -r requirements.lock \
 && pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/venv/bin/python install --no-deps dist/*.whl \
 && /opt/venv/bin/python -m decision_service.bill_of_materials --installed \
    --lock requirements.lock --out /opt/venv/sbom.cdx.json

FROM ${PYTHON_IMAGE}
# LightGBM's wheel links the system's OpenMP runtime.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1=12.* \
 && rm -rf /var/lib/apt/lists/* \
 && python -m pip uninstall --yes pip setuptools wheel \
 && useradd --system --uid 10001 --create-home --home-dir /app service \
 && mkdir -p /data /var/cache/numba \
 && chown service:service /data /var/cache/numba
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY rules rules
COPY models models
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/numba
USER 10001
# The cache is keyed by the processor: a host of another kind compiles once more, into the same (writable) folder.
RUN ["python", "-m", "decision_service.warm"]
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["decision-service"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--data-dir", "/data", "--rules", "rules", "--models", "models"]
