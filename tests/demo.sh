#!/bin/sh
# Five queries in five directions over the bundled samples: demo.sh MMSEARCH INDEX SAMPLES
set -eu
mmsearch=$1 index=$2 samples=$3

ask() {
    echo
    echo "-- $1"
    shift
    echo "   mmsearch query $* -k 3"
    "$mmsearch" query "$@" -k 3 --index "$index"
}

ask "text → image" "a hot air balloon over the trees" --to image
ask "text → audio" "狗叫" --to audio
ask "image → text" --image "$samples/photos/coffee.jpg" --to text
ask "audio → text" --audio "$samples/sounds/rain.ogg" --to text
ask "image → image" --image "$samples/photos/tabby.jpg" --to image
echo
echo "More of these: .venv/bin/mmsearch query \"…\" --index $index"
echo "Now your own: .venv/bin/mmsearch index FOLDER, then .venv/bin/mmsearch query \"…\""
