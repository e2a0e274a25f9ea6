# The harness with PyTorch, on the processor: docker build -t robustness-harness .
#   docker run --rm -v "$PWD/results:/work/results" robustness-harness run digits
FROM python:3.12-slim

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    HARNESS_CACHE_DIR=/work/cache

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE robustness_harness.py pytest_robustness_harness.py ./
COPY harness harness
COPY backends backends
COPY suites suites
COPY reports reports
# PyTorch's own index has builds without CUDA.
RUN pip install --constraint constraints.txt \
      --extra-index-url https://download.pytorch.org/whl/cpu '.[torch,serve,onnx,search]' \
    && rm -rf /src \
    && useradd --create-home --uid 1000 harness \
    && mkdir /work && chown 1000 /work

USER 1000
WORKDIR /work
ENTRYPOINT ["harness"]
CMD ["--help"]
