# The studio at http://127.0.0.1:7860:
#   docker build -t etude .
#   docker run --rm -p 7860:7860 -v etude-work:/work etude
FROM python:3.12-slim

RUN --mount=type=bind,source=packages.txt,target=/tmp/packages.txt \
    apt-get update && apt-get install -y --no-install-recommends $(cat /tmp/packages.txt) && rm -rf /var/lib/apt/lists/*
# torch first, in its CPU build: the default wheel brings gigabytes of CUDA along
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu 'torch>=2.8,<2.12'
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY app.py README.md LICENSE ./
COPY engine engine
COPY studio studio
COPY checkpoints checkpoints
COPY docs docs
COPY examples examples

RUN useradd --create-home etude && mkdir /work && chown etude /work
USER etude
ENV ETUDE_STATE_DIR=/work GRADIO_SERVER_NAME=0.0.0.0 PYTHONDONTWRITEBYTECODE=1
VOLUME /work
EXPOSE 7860
CMD ["python", "app.py"]
