#!/bin/sh
# Five queries in five directions over the bundled samples: demo.sh MMSEARCH INDEX SAMPLES
# Each command is printed so that it can be pasted into a shell.
set -eu
mmsearch=$1 index=$2 samples=$3

quoted() {
    for word in "$@"; do
        case $word in
            '' | *[!A-Za-z0-9_./-]*) printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
}

ask() {
    echo
    echo "-- $1"
    shift
    set -- query "$@" -k 3 --index "$index"
    printf '  %s\n' "$(quoted "$mmsearch" "$@")"
    "$mmsearch" "$@"
}

ask "text → image" "a hot air balloon over the trees" --to image
ask "text → audio" "狗叫" --to audio
ask "image → text" --image "$samples/photos/coffee.jpg" --to text
ask "audio → text" --audio "$samples/sounds/rain.ogg" --to text
ask "image → image" --image "$samples/photos/tabby.jpg" --to image
echo
echo "More of these:$(quoted "$mmsearch") query \"…\"$(quoted --index "$index")"
echo "Now your own:$(quoted "$mmsearch") index FOLDER, then$(quoted "$mmsearch") query \"…\""
