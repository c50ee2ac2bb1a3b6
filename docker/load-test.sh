#!/bin/sh
# Send a bounded number of requests side by side and count the answers by status; needs nothing but curl.
#
#   LOAD_URL=http://127.0.0.1:8000/msg LOAD_REQUESTS=500 LOAD_CONCURRENCY=20 sh docker/load-test.sh
#
# Ends with 0 when every answer was a 200, with 1 when one was not, with 2 when it was called wrongly.
# Status 000 is curl's word for a request that got no answer.
set -eu

url=${LOAD_URL:-http://127.0.0.1:8000/msg}
requests=${LOAD_REQUESTS:-500}
concurrency=${LOAD_CONCURRENCY:-20}

# whole_number NAME VALUE HIGHEST: stop unless VALUE lies between 1 and HIGHEST.
whole_number() {
    case $2 in
        '' | 0* | *[!0-9]* | ???????*) ;;
        *) [ "$2" -gt "$3" ] || return 0 ;;
    esac
    echo "$1=$2: expected a whole number from 1 to $3" >&2
    exit 2
}
whole_number LOAD_REQUESTS "$requests" 100000
whole_number LOAD_CONCURRENCY "$concurrency" 300 # more is beyond --parallel-max of older curls

command -v curl >/dev/null || {
    echo "curl is needed and was not found" >&2
    exit 2
}

# The range stands in the fragment: curl counts it through and sends none of it.
# curl's own exit status is that of its last request only, so the counts decide.
# Some curls draw a meter of parallel transfers even when silent: that goes.
statuses=$(curl --silent --noproxy '*' --max-time 60 --parallel --parallel-immediate --parallel-max "$concurrency" \
    --output /dev/null --write-out '%{http_code}\n' "$url#[1-$requests]" 2>/dev/null) || true

printf '%s\n' "$statuses" | sort | uniq -c | while read -r count status; do
    echo "status $status: $count"
done
good=$(printf '%s\n' "$statuses" | grep -c '^200$') || true
echo "$good of $requests answered with 200"
[ "$good" -eq "$requests" ]
