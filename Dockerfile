# README's command in a container, on a CPU:
#   docker build -t expo .
#   docker run --rm -v "$PWD/runs:/expo-lite/runs" expo
# With a CUDA build of torch, for a machine with an NVIDIA GPU and its container toolkit (--gpus all):
#   docker build -t expo --build-arg TORCH_INDEX=https://pypi.org/simple .
FROM python:3.11-slim

WORKDIR /expo-lite
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir torch==2.13.0 --index-url ${TORCH_INDEX}

COPY LICENSE README.md app.py constraints.txt hatch_build.py pyproject.toml ./
COPY presets presets/
COPY expo_lite expo_lite/
RUN pip install --no-cache-dir -c constraints.txt -e '.[app]'

CMD ["python", "-m", "expo_lite.train", "--preset", "tiny"]
