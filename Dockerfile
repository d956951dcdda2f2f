# The image for production: no embedded servers. Name yours in JIEBAN_DATABASE_URL and JIEBAN_REDIS_URL.
#
#   docker build -t jieban .
#   docker run --rm -e JIEBAN_DATABASE_URL=… -e JIEBAN_REDIS_URL=… jieban python -m service.cli migrate
#   docker run -p 8000:8000 -e JIEBAN_DATABASE_URL=… -e JIEBAN_REDIS_URL=… jieban

FROM python:3.11-slim-bookworm AS packages
COPY requirements-prod.lock /tmp/
RUN python -m venv /opt/jieban/venv \
 && /opt/jieban/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
      --require-hashes -r /tmp/requirements-prod.lock \
 && /opt/jieban/venv/bin/pip uninstall --yes --quiet pip setuptools

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin jieban \
 && install -d -o jieban -g jieban -m 0700 /var/lib/jieban
COPY --from=packages /opt/jieban/venv /opt/jieban/venv
WORKDIR /opt/jieban/app
COPY pyproject.toml ./
COPY workflows ./workflows
COPY migrations ./migrations
COPY service ./service
RUN /opt/jieban/venv/bin/python -m compileall -q service migrations
ENV PATH=/opt/jieban/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    JIEBAN_DATA_DIR=/var/lib/jieban \
    JIEBAN_HOST=0.0.0.0 \
    JIEBAN_PORT=8000
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['JIEBAN_PORT'] + '/healthz', timeout=4)"]
CMD ["python", "-m", "service.cli", "api"]
