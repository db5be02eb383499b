# natshook as a static binary with CA certificates, and nothing else: no shell, no libraries, nothing to patch but itself.

FROM rust:1.95-bookworm AS build
# Linked whole, so that the last stage can be empty. Debian's C library rather than musl: its resolver is the one that
# clusters are tried with, and the binary is the one that the tests run.
ENV RUSTFLAGS="-C target-feature=+crt-static"
WORKDIR /natshook

# The dependencies alone, so that they are built again only when they change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --release --target "$(rustc --print host-tuple)" \
    && rm -r src

COPY config config
COPY src src
# COPY keeps the files' times, which may be older than the empty crate above.
RUN touch src/main.rs src/lib.rs \
    && cargo build --locked --release --target "$(rustc --print host-tuple)" \
    && install -D -t /root-of-image target/*/release/natshook \
    && install -D -m 0644 -t /root-of-image/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
    && install -D -m 0644 -t /root-of-image/etc/natshook config/image.toml \
    && mv /root-of-image/etc/natshook/image.toml /root-of-image/etc/natshook/natshook.toml \
    && echo 'hosts: files dns' > /root-of-image/etc/nsswitch.conf \
    && echo 'natshook:x:65532:65532:natshook:/:/sbin/nologin' > /root-of-image/etc/passwd \
    && echo 'natshook:x:65532:' > /root-of-image/etc/group

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="natshook" \
      org.opencontainers.image.description="Delivers NATS messages to external webhooks: signed, retried, dead-lettered" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# The certificates are the system's roots, read by natshook for targets and for the broker.
COPY --from=build /root-of-image /
USER 65532:65532
# All commands in the container read this one.
ENV NATSHOOK_CONFIG=/etc/natshook/natshook.toml
# Status page, health and metrics, once admin.listen names an address that is not loopback, with admin.token.
EXPOSE 8822
# The first one drains. Give it longer than shutdown.grace_period: docker run --stop-timeout 45.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/natshook", "health"]
ENTRYPOINT ["/natshook"]
CMD ["run"]
