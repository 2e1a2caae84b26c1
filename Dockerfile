# Builds the packaged binary and puts it alone into a small image.
#   docker build -t hookkeeper .
#   docker run -p 8080:8080 -v hookkeeper:/data -v ./hookkeeper.toml:/data/hookkeeper.toml:ro hookkeeper
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY src src
COPY migrations migrations
COPY benches benches
RUN cargo build --locked --profile dist --bin hookkeeper

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --home-dir /data --create-home hookkeeper
COPY --from=build /build/target/dist/hookkeeper /usr/local/bin/hookkeeper
USER hookkeeper
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["hookkeeper"]
CMD ["serve"]
