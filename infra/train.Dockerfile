# The environment of training on GPUs, without the checkout (a volume holds it, see train-job.yaml):
#   docker build -f infra/train.Dockerfile -t tailmark-train .
# Not built by the tests, which need no container engine. torch comes for CUDA from the package index, the rest in the tested versions.
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/tailmark
COPY constraints.txt pyproject.toml README.md ./
COPY src src
RUN pip install --no-cache-dir torch==2.13.0 && pip install --no-cache-dir -c constraints.txt .
ENV HF_HUB_OFFLINE=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true
