#!/bin/sh
# What README.md does, from this folder.
set -e
python make_recordings.py commands commands
peftlab train +experiment=spoken_commands data.path=commands run_dir=run
peftlab predict run commands/f4_stop.wav commands/f4_go.wav
peftlab report run --out report
