#!/bin/sh
# The sample pictures through a running compose stack: submitted, audited, stored, counted. Fails where one has no result.
set -eu
deploy=$(cd "$(dirname "$0")" && pwd)
compose() { docker compose --file "$deploy/compose.yaml" "$@"; }

# Submitted anew each time: the same pictures under other names are other jobs.
run="/samples/$(date +%s)"
echo "submitting $(find "$deploy/../samples/pictures" -type f | wc -l) pictures and waiting for their results"
compose run --rm --no-TTY --volume "$deploy/../samples/pictures:$run:ro" migrate submit "$run" --queue high --watch
compose run --rm --no-TTY migrate status
compose exec --no-TTY web python -c "
import http.client
for path in ('/healthz', '/readyz'):
    connection = http.client.HTTPConnection('127.0.0.1', 8080, timeout=10)
    connection.request('GET', path)
    status = connection.getresponse().status
    print('web', path, status)
    assert status == 200
"
echo "the stack answers"
