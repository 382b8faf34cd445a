# The exporter with every adapter. The build downloads exactly the wheels of requirements.lock, each checked by its hash,
# and installs from these alone. Nothing is compiled, so this machine's own Python does it for another architecture too.
ARG PYTHON=3.13
FROM --platform=$BUILDPLATFORM python:${PYTHON}-slim AS build
# What is installed: of pyproject.toml's optional-dependencies, e.g. celery,otel for less.
ARG EXTRAS=all,otel
# For company mirrors and proxies; unset otherwise.
ARG PIP_INDEX_URL
ARG SSL_CERT_FILE
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /build && for venv in /sbom /opt/taskq-exporter; do python -m venv --without-pip $venv; done
COPY deploy/requirements-sbom.txt ./
RUN /build/bin/pip --python /sbom/bin/python install --quiet --require-hashes --only-binary :all: -r requirements-sbom.txt
# Set by the builder. With a platform pip takes what is said and no more: here each glibc from 2.17 to 2.28.
ARG TARGETARCH
RUN case "$TARGETARCH" in amd64) machine=x86_64 ;; arm64) machine=aarch64 ;; "") machine=$(uname -m) ;; *) machine=$TARGETARCH ;; esac \
 && for minor in $(seq 17 28); do echo "--platform=manylinux_2_${minor}_${machine}"; done >/platforms
COPY requirements.lock ./
RUN xargs /build/bin/pip download --quiet --require-hashes --only-binary :all: --dest /wheels -r requirements.lock </platforms \
 && /build/bin/pip install --quiet --no-index --find-links /wheels hatchling
COPY pyproject.toml README.md LICENSE ./
COPY taskq_exporter taskq_exporter
COPY plugins plugins
RUN /build/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels . ./plugins/* \
 && site=$(echo /opt/taskq-exporter/lib/python*/site-packages) \
 && xargs /build/bin/pip --python /opt/taskq-exporter/bin/python install --quiet --no-index --find-links /wheels \
      --only-binary :all: --target "$site" "taskq-exporter[${EXTRAS}]" </platforms \
 && mv "$site"/bin/* /opt/taskq-exporter/bin && rmdir "$site/bin" \
 && /sbom/bin/cyclonedx-py environment --output-reproducible --output-file /opt/taskq-exporter/sbom.cdx.json \
      /opt/taskq-exporter/bin/python

FROM python:${PYTHON}-slim
ARG REVISION=unknown
LABEL org.opencontainers.image.title="taskq-exporter" \
      org.opencontainers.image.description="One Prometheus exporter for every task queue" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
 && install -d -o 65532 -g 65532 /var/lib/taskq-exporter
COPY --from=build /opt/taskq-exporter /opt/taskq-exporter
# The base has no compiled standard library: each start and each health check would compile what it imports anew.
RUN /opt/taskq-exporter/bin/taskq-exporter adapters >/dev/null
ENV PATH=/opt/taskq-exporter/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 9540
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["taskq-exporter", "healthcheck"]
ENTRYPOINT ["taskq-exporter"]
