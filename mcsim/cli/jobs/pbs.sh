#!/bin/bash
# A run of mcsim on PBS: @about@
#   bash FILE submit   sends it; the same again goes on with what is not complete
#   bash FILE merge    puts together here and now what the tasks have written
@directives@
@values@
threads=${NCPUS:-@cpus@}
index=${PBS_ARRAY_INDEX:-1}
seconds=@seconds@

# Only operators may requeue a job of PBS: what goes on with it is sent at once, and waits.
submit() {
    local job='' round
    for ((round = 0; round <= restarts; round++)); do
        job=$(qsub ${job:+-W "depend=afterany:$job"} "$file")
        echo "job $job: $about"
    done
    if [ "$shards" -gt 1 ]; then
        job=$(printf 'exec bash %q merge\n' "$file" |
            qsub -W "depend=afterok:$job" -r y -j oe \
                @merge@)
        echo "job $job: the merge, after them"
    fi
}

# PBS ends a job at its limit without telling it in time. In the foreground: otherwise `timeout`
# signals twice, and the second one ends mcsim. The shell outlives a signal that PBS sends to all.
start() {
    trap : TERM
    local left=$((seconds - SECONDS))
    if [ "$seconds" -eq 0 ]; then
        "$@"
    elif [ "$left" -ge 10 ]; then
        timeout --foreground --preserve-status --signal=USR1 "$left" "$@"
    else
        return 85
    fi
}

again() {
    echo "mcsim: the next round goes on; after the last, submit again" >&2
}
