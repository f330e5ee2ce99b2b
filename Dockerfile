# The build needs the network for modules only; the result needs nothing. It runs on this
# machine's own processor, also for another one (--platform linux/arm64).
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
# GOPROXY is where the modules come from; SITE_CA is a CA in PEM form that stands
# between this build and the Internet. The image has the roots from before it:
# the relay must not take that CA's word for other people's mail hosts.
ARG GOPROXY
ARG SITE_CA
RUN mkdir -p /out/certs && cp /etc/ssl/certs/ca-certificates.crt /out/certs/ \
 && if [ -n "${SITE_CA}" ]; then printf '%s\n' "${SITE_CA}" > /usr/local/share/ca-certificates/site.crt && update-ca-certificates; fi
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG TARGETARCH
RUN CGO_ENABLED=0 GOARCH=${TARGETARCH} go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/stsrelay ./cmd/stsrelay \
 && mkdir -p /out/data /out/etc/stsrelay /out/tmp \
 && cp config/container.toml /out/etc/stsrelay/stsrelay.toml

FROM scratch
ARG VERSION=dev
LABEL org.opencontainers.image.title="stsrelay" \
      org.opencontainers.image.description="A smarthost that delivers over verified TLS: MTA-STS, DANE, TLS-RPT" \
      org.opencontainers.image.source="https://github.com/stsrelay/stsrelay" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /out/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/stsrelay /stsrelay
COPY --from=build --chown=65532:65532 /out/data /var/lib/stsrelay
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build /out/etc/stsrelay /etc/stsrelay
# Docker lets an unprivileged user bind port 25 inside a container.
USER 65532:65532
# By "container" the relay knows with every engine that it is in one (systemd's
# container interface).
ENV STSRELAY_DATA_DIR=/var/lib/stsrelay container=oci
VOLUME /var/lib/stsrelay
EXPOSE 25
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/stsrelay", "status"]
ENTRYPOINT ["/stsrelay"]
CMD ["serve"]
