#!/usr/bin/env bash
# Trains the classifier, makes up the stream, and watches it.
set -euo pipefail
cd "$(dirname "$0")"
peftlab train --config-dir conf +experiment=opinion_monitoring run_dir=runs/opinions
python make_stream.py runs/opinions --out stream.csv
peftlab watch runs/opinions --stream stream.csv --time created --text text --config watch.yaml --final --out watch
