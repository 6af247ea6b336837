# Targets: cpu and gpu serve, tools trains and exports.
#
#   docker build --target cpu --tag quartet:cpu .
#
# What is installed stands in deploy/locks, with hashes; `make lock` writes it from pyproject.toml.
# The stages of cpu stand first: a builder without BuildKit builds all that are above its target.

ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm


# --- Packages: only wheels, without their own tests, into an environment without pip --------------
FROM ${PYTHON_IMAGE} AS installer
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/quartet
WORKDIR /build

FROM installer AS cpu-packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY deploy/locks/cpu.txt .
RUN python -m pip --python /opt/quartet/bin/python install \
    --require-hashes --no-deps --only-binary :all: --requirement cpu.txt \
    && find /opt/quartet -type d -name tests -prune -exec rm -r {} +

# Compiled here, because nothing can be written where the service runs.
FROM ${PYTHON_IMAGE} AS source
COPY service /srv/quartet/service
# The page shows its snippets, by a link in service/page/assets.
COPY docs/clients.md /srv/quartet/docs/clients.md
RUN python -m compileall -q /srv/quartet


# --- What both serving images say of themselves ---------------------------------------------------
FROM ${PYTHON_IMAGE} AS serving
ENV PATH=/opt/quartet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    QUARTET_SERVER__HOST=0.0.0.0 \
    QUARTET_MODELS__REPOSITORY=/models
WORKDIR /srv/quartet
# A number, so that an orchestrator can tell that it is not root.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# The exec form: signals reach the service itself.
ENTRYPOINT ["python", "-m", "service"]
CMD ["serve"]
# A bare connection, because a proxy in the environment is not for this address.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
c = http.client.HTTPConnection('127.0.0.1', int(os.getenv('QUARTET_SERVER__PORT') or 8000), 4); \
c.request('GET', '/health/ready'); \
sys.exit(c.getresponse().status != 200)"]
LABEL org.opencontainers.image.title="Quartet" \
    org.opencontainers.image.description="One service for four kinds of ONNX models: classify, translate, detect, embed" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="0.1.0"


# --- cpu ------------------------------------------------------------------------------------------
FROM serving AS cpu
COPY --from=cpu-packages /opt/quartet /opt/quartet
COPY models/repository /models
COPY --from=source /srv/quartet /srv/quartet
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"


# --- gpu: CUDA and cuDNN are packages too, so they are locked like the others (decision 8) --------
FROM installer AS gpu-packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY deploy/locks/gpu.txt .
RUN python -m pip --python /opt/quartet/bin/python install \
    --require-hashes --no-deps --only-binary :all: --requirement gpu.txt \
    && find /opt/quartet -type d -name tests -prune -exec rm -r {} +

FROM serving AS gpu
# What the NVIDIA container runtime reads: which devices, which parts of the driver, how new a one.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_REQUIRE_CUDA=cuda>=13.0 \
    QUARTET_MODELS__DEVICE=cuda:0
COPY --from=gpu-packages /opt/quartet /opt/quartet
COPY models/repository /models
COPY --from=source /srv/quartet /srv/quartet
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"


# --- tools: training, export, evaluation; torch is here and nowhere else (decision 12) ------------
FROM installer AS tools-packages
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
# Where torch without CUDA is; PyPI does not have it.
ARG TORCH_LINKS=https://download.pytorch.org/whl/cpu/torch/
COPY deploy/locks/tools.txt .
RUN python -m pip --python /opt/quartet/bin/python install \
    --require-hashes --no-deps --find-links ${TORCH_LINKS} --requirement tools.txt

FROM ${PYTHON_IMAGE} AS tools
ENV PATH=/opt/quartet/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp
WORKDIR /srv/quartet
COPY --from=tools-packages /opt/quartet /opt/quartet
COPY models models
COPY service service
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["models", "--help"]
LABEL org.opencontainers.image.title="Quartet tools" \
    org.opencontainers.image.description="Trains, exports and evaluates what Quartet serves" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="0.1.0"
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"
