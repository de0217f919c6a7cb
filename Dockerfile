# Everything on a CPU: docker build -t resattn . && docker run --rm resattn demo
# Your files: docker run --rm -v "$PWD:/files" resattn inspect net.pt
# The plain wheels of PyTorch for Linux bring gigabytes of CUDA packages. Where an index of wheels for the CPU is within
# reach, name it: docker build --build-arg PIP_EXTRA_INDEX_URL=... .
FROM python:3.11-slim
ARG EXTRAS=all
ARG PIP_EXTRA_INDEX_URL
ENV TF_CPP_MIN_LOG_LEVEL=3
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"
WORKDIR /files
ENTRYPOINT ["resattn"]
CMD ["--help"]
