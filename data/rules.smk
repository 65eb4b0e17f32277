# The network -> raw meshes, for datasets that are downloaded. On a cluster it runs where snakemake does: nodes often have no network.
localrules:
    acquire,


rule acquire:
    output:
        f"{dag.prepared}/{{split}}/{{shard}}.acquired.csv",
    log:
        f"{dag.logs}/acquire/{{split}}-{{shard}}.log",
    params:
        job=dag.acquire_job,
    threads: 1
    retries: 1
    message:
        "acquire the objects of {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m data acquire --job {params.job:q} 2>&1 | tee {log}"


# Raw meshes -> prepared shards, each with the list of what was left out; then one manifest for the dataset.


rule prepare:
    input:
        dag.raw_meshes,
        dag.acquired,
    output:
        shard=f"{dag.prepared}/{{split}}/{{shard}}.safetensors",
        quarantine=f"{dag.prepared}/{{split}}/{{shard}}.quarantine.csv",
    log:
        f"{dag.logs}/prepare/{{split}}-{{shard}}.log",
    params:
        job=dag.prepare_job,
        code=source_hash(*dag.PREPARE_CODE),
    threads: 1
    resources:
        mem_mb=needs.memory("prepare", dag.scale),
        runtime=needs.minutes("prepare", dag.scale),
    message:
        "prepare {wildcards.split} shard {wildcards.shard}"
    shell:
        "python -m data prepare --job {params.job:q} 2>&1 | tee {log}"


# All shards are there: counts, how many objects were left out, and the hash of the data. What needs the shards waits for this.
rule describe:
    input:
        dag.shards,
    output:
        manifest=f"{dag.prepared}/manifest.json",
        quarantine=f"{dag.prepared}/quarantine.csv",
    log:
        f"{dag.logs}/describe.log",
    message:
        "describe the prepared shards in {output.manifest}"
    shell:
        "python -m data quarantine --prepared $(dirname {output.manifest}) --out {output.quarantine} --manifest {output.manifest} 2>&1 | tee {log}"
