#!/bin/bash
# A run of mcsim on Slurm: @about@
#   bash FILE submit   sends it; the same again goes on with what is not complete
#   bash FILE merge    puts together here and now what the tasks have written
@directives@
@values@
threads=${SLURM_CPUS_PER_TASK:-1}
index=${SLURM_ARRAY_TASK_ID:-1}

submit() {
    local job
    job=$(sbatch --parsable "$file")
    job=${job%%;*}
    echo "job $job: $about"
    if [ "$shards" -gt 1 ]; then
        # The merge never starts, and is taken away, where a task fails for good.
        job=$(printf '#!/bin/bash\nexec bash %q merge\n' "$file" |
            sbatch --parsable --dependency="afterok:$job" --kill-on-invalid-dep=yes --requeue \
                --output=merge.log --open-mode=append \
                @merge@)
        echo "job ${job%%;*}: the merge, after it"
    fi
}

# Slurm signals steps, before the limit as by scancel; so mcsim is one. With `scancel --full` the
# shell and srun are signalled too, and srun would pass it on: a second one, which ends mcsim.
# Between two shards there is no step to be signalled; then the clock says that the limit is near.
start() {
    trap '' USR1 USR2
    if [ $((${SLURM_JOB_END_TIME:-$(date +%s) + @margin@} - $(date +%s))) -lt @margin@ ]; then
        return 85
    fi
    srun --nodes=1 --ntasks=1 --cpus-per-task="$threads" --export=ALL -- "$@"
}

# By its number in the array: the number of a job is, for one task, that of the whole array.
again() {
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$restarts" ]; then
        echo "mcsim: started again $restarts times already; submitted again, it goes on" >&2
    else
        scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$index}"
    fi
}
