# natshook as a static binary with CA certificates, and nothing else.

FROM rust:1.95-alpine AS build
# A C compiler for ring and mimalloc.
RUN apk add --no-cache ca-certificates gcc musl-dev
WORKDIR /natshook

# The dependencies alone, so that they are built again only when they change.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --locked --release \
    && rm -r src

# On this target (musl) Rust links statically by itself.
COPY config config
COPY src src
# COPY keeps the files' times, which may be older than the empty crate above.
RUN touch src/main.rs src/lib.rs \
    && cargo build --locked --release

FROM scratch
# The system's roots, read by natshook for targets and for the broker.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /natshook/target/release/natshook /natshook
USER 65532:65532
# Health, readiness and metrics, once admin.listen names an address that is not loopback.
EXPOSE 8822
# The first one drains. Give it longer than shutdown.grace_period: docker run --stop-timeout 40.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/natshook"]
CMD ["run", "--config", "/etc/natshook/natshook.toml"]
