
run() {
    local status=0
    start "${mcsim[@]}" run scenario.toml "${options[@]}" --threads "$threads" "$@" || status=$?
    case $status in
        85) again ;;
        # USR1 or USR2, before mcsim was there to take it.
        138 | 140) again && status=85 ;;
    esac
    if [ "$status" -ne 0 ]; then
        exit "$status"
    fi
}

task() {
    if [[ ! "$index" =~ ^[1-9][0-9]*$ ]] || [ "$index" -gt "$tasks" ]; then
        echo "mcsim: there is no task $index, only 1 to $tasks" >&2
        exit 2
    fi
    if [ -z "$cache" ]; then
        # Its own, so that no node waits for another; the first shard compiles for all of the task.
        cache=$(mktemp -d || mktemp -d /tmp/mcsim.XXXXXX)
        trap 'rm -rf -- "$cache"' EXIT
    fi
    export MCSIM_CACHE_DIR=$cache
    if [ "$shards" -eq 1 ]; then
        run -o "$output"
    fi
    local shard
    for ((shard = index; shards > 1 && shard <= shards; shard += tasks)); do
        run --shard "$shard/$shards" -o "parts/{shard}-of-$shards.nc"
    done
}

merge() {
    "${mcsim[@]}" merge parts/*"-of-$shards.nc" -o "$output"
}

# The scenario as it was when this file was written: later edits make no foreign shards.
prepare() {
    mkdir -p -- "$directory/parts"
    cd -- "$directory"
    local copy
    copy=$(mktemp scenario.XXXXXX)
    cat >"$copy" <<'@end@'
@scenario@
@end@
    # As readable as other files: mktemp is for files that are not.
    chmod '=rw' "$copy"
    if [ ! -e scenario.toml ]; then
        mv -- "$copy" scenario.toml
    elif cmp -s -- "$copy" scenario.toml; then
        rm -- "$copy"
    else
        rm -- "$copy"
        printf 'mcsim: %s: holds the shards of another scenario\n' "$directory" >&2
        exit 2
    fi
}

verb=${1-task}
case $verb in
    task | merge | submit) ;;
    *) echo "usage: bash FILE [submit | merge]" >&2 && exit 2 ;;
esac
prepare
"$verb"
