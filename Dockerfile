# One image for every file of consumers/. An application's own image starts FROM it, adds its package and sets
# ORCHESTRATOR_APP. LOCK chooses the locked requirements: base for applications, audit for engines that sign heads or know who asked,
# s3 for those that keep checkpoints in a bucket as well, demo for the bundled example.
FROM python:3.13-slim AS build
ARG LOCK=base
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /opt/orchestrator \
 && /opt/orchestrator/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/${LOCK}.txt \
 && pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas/ schemas/
COPY orchestrator/ orchestrator/
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/orchestrator/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.13-slim
RUN useradd --uid 1000 --user-group --no-create-home --shell /usr/sbin/nologin orchestrator \
 && install -d -o 1000 -g 1000 /var/lib/orchestrator /var/lib/orchestrator-blobs
COPY --from=build /opt/orchestrator /opt/orchestrator
WORKDIR /app
COPY consumers/ consumers/
COPY examples/ examples/
ENV PATH=/opt/orchestrator/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORCHESTRATOR_STATE_DIR=/var/lib/orchestrator
USER 1000:1000
# Exec form: SIGTERM reaches Python itself, which drains. No ENTRYPOINT: the consumer is the command.
CMD ["python", "consumers/engine.py"]
