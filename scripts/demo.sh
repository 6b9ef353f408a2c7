#!/bin/sh
# Run by `make demo`: start the server, sync the photos with the offline model, keep serving.
# The Makefile sets BIN, PORT, DEMO_HOME and PHOTOS.
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

# Exit status 3: some files are not usable images; the sync has named them.
"$BIN/syncer" sync "$PHOTOS" --bucket "$bucket" || [ $? -eq 3 ]
kill -0 "$server" 2>/dev/null || { echo "The server stopped; see its message above. To use another port: make demo PORT=8001" >&2; exit 1; }
printf '\nThe gallery is at http://127.0.0.1:%s/?bucket=%s (Ctrl-C to stop)\n' "$PORT" "$bucket"
wait "$server"
