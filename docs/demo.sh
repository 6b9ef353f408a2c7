#!/bin/sh
# What `make demo` runs: the server, then a sync of the photos, both with the model that needs no download.
# BIN, PORT, DEMO_HOME and PHOTOS come from the Makefile.
set -eu

export IMAGE_BROWSER_HOME="$DEMO_HOME" EMBEDDER=offline
unset DATABASE_URL S3_ENDPOINT_URL R2_ACCOUNT_ID PUBLIC_URL BUCKETS BUCKET READ_TOKEN READ_TOKENS 2>/dev/null || true

bucket=sample-photos
if [ -z "$PHOTOS" ]; then
    PHOTOS="$DEMO_HOME/sample-photos"
    "$BIN/python" -m shared.sample_photos "$PHOTOS"
else
    bucket=$(basename "$(cd "$PHOTOS" && pwd)")
fi

"$BIN/server" --port "$PORT" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM

# Status 3: finished, but some files are no images; they were named above.
"$BIN/syncer" sync "$PHOTOS" --bucket "$bucket" || [ $? -eq 3 ]
kill -0 "$server" 2>/dev/null || { echo "The server has ended: see above, or take another port with PORT=" >&2; exit 1; }
printf '\nThe gallery is at http://127.0.0.1:%s/?bucket=%s (Ctrl-C ends it)\n' "$PORT" "$bucket"
wait "$server"
