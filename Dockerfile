# The two commands of the README in a container:
#   docker build --tag xception-ablations .
#   docker run --rm --volume "$PWD/results:/xception-ablations/results" xception-ablations
#   docker run --rm xception-ablations make test
# The first `run` is `make reproduce-figures`; tables, figures, records and the report page stay in results/.
FROM python:3.11-slim

# git: records name the commit. chromium-headless-shell: tests drive the report page in a browser.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends chromium-headless-shell git make \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /xception-ablations
COPY . .
RUN make .venv/installed-dev

CMD ["make", "reproduce-figures"]
