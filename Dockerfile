# The prediction service, without TensorFlow and Kedro. Build and run it from the root of the repository:
#     docker build -t cifar10-serve .
#     docker run -p 8000:8000 -v "$PWD/data/07_model_output/serving:/models:ro" --read-only cifar10-serve
FROM python:3.12-slim AS build
WORKDIR /build
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
# Dependencies get their own layer, which stays cached when only the code changes.
COPY pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['serve'], sep='\n')" > serve.txt \
    && pip install --no-cache-dir -c constraints.txt -r serve.txt
COPY LICENSE README.md ./
COPY src src
RUN pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home serve && mkdir /models
USER 10001
VOLUME /models
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["cifar10-serve", "--host", "0.0.0.0", "--models", "/models"]
