# The image of the registry's migration and of Feast's feature server: star_platform and what it needs, at the versions
# of requirements.lock. EXTRAS="postgres redis minilm onnx" makes one that can also release.
FROM python:3.11.15-slim-bookworm AS build
ARG EXTRAS="postgres redis"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PATH=/opt/venv/bin:$PATH
RUN python -m venv /opt/venv
WORKDIR /build
# first what changes rarely: a change of the code does not install the packages anew
COPY pyproject.toml requirements.lock ./
RUN python -c "import sys, tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*p['dependencies'], *[need for extra in sys.argv[1:] for need in p['optional-dependencies'][extra]], sep='\n')" \
    $EXTRAS > needed.txt && pip install --constraint requirements.lock --requirement needed.txt
COPY LICENSE README.md ./
COPY migrations migrations
COPY star_platform star_platform
RUN pip install --no-deps .

FROM python:3.11.15-slim-bookworm
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/venv /opt/venv
COPY services /srv/services
COPY services/feature_store.yaml /srv/feature_repo/feature_store.yaml
RUN useradd --create-home star
USER star
WORKDIR /srv
CMD ["star-platform", "--help"]
