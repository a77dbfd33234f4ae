# The image of Sallyport: one static binary, no shell, uid 10001. It runs with a
# read-only root; deploy/compose.yml shows every restriction that it bears.
#
#   docker build -t sallyport .
#
# That needs BuildKit, the default builder, which leaves out the stage "final".
# Both base images are arguments. Where no image can be pulled, "final" takes a
# binary that exists already; no other stage with a RUN stands before it, so the
# classic builder can make it (see .ci/container):
#
#   DOCKER_BUILDKIT=0 docker build --target final \
#     --build-arg BASE_IMAGE=scratch --build-arg BINARY=sallyport -t sallyport .

ARG BUILD_IMAGE=golang:1.26
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${BASE_IMAGE} AS base
COPY deploy/image/etc/ /etc/
COPY --chown=10001:10001 deploy/image/data/ /data/
USER 10001:10001
# Mounted read-only: the YAML files, the keys with known_hosts, the secrets. /data
# is the one place to write to, for logs that go to files.
WORKDIR /app
ENV SALLYPORT_CONFIG_DIR=/app/config \
    MCP_SSH_KEYS_DIR=/app/keys \
    MCP_SSH_SECRETS_DIR=/app/secrets \
    SALLYPORT_STATE_DIR=/data/state \
    HOME=/data
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 CMD ["/sallyport", "healthcheck"]
ENTRYPOINT ["/sallyport"]
CMD ["serve"]

FROM base AS final
ARG BINARY=sallyport
COPY ${BINARY} /sallyport

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd/ cmd/
COPY pkg/ pkg/
COPY policies/ policies/
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /sallyport ./cmd/sallyport

FROM base
COPY --from=build /sallyport /sallyport
