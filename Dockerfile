# The exporter with every adapter. The build downloads exactly the wheels of requirements.lock, each checked by its hash,
# and installs from these alone.
ARG PYTHON=3.13
FROM python:${PYTHON}-slim AS build
# For company mirrors and proxies; unset otherwise.
ARG PIP_INDEX_URL
ARG SSL_CERT_FILE
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /build && python -m venv --without-pip /opt/taskq-exporter
COPY requirements.lock ./
RUN /build/bin/pip download --quiet --require-hashes --only-binary :all: --dest /wheels -r requirements.lock \
 && /build/bin/pip install --quiet --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY taskq_exporter taskq_exporter
COPY plugins plugins
RUN /build/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels . ./plugins/* \
 && /build/bin/pip --python /opt/taskq-exporter/bin/python install --quiet --no-index --find-links /wheels "taskq-exporter[all]"

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="taskq-exporter" \
      org.opencontainers.image.description="One Prometheus exporter for every task queue" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && install -d -o 65532 -g 65532 /var/lib/taskq-exporter
COPY --from=build /opt/taskq-exporter /opt/taskq-exporter
ENV PATH=/opt/taskq-exporter/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 9540
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s CMD ["python", "-c", \
  "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('METRICS_PORT', '9540') + '/-/healthy', timeout=2)"]
ENTRYPOINT ["taskq-exporter"]
