# Prepared shards -> trained stages -> meshes. Both commands resume from `resume/` beside their output, which is not declared, so that
# Snakemake keeps it when a job dies. A method that raises, or is killed at each attempt, leaves a record with status failed, which the table shows.


rule weights:  # where the network is: a fit on a cluster may have none
    output:
        f"{dag.root}/weights.json",
    log:
        f"{dag.logs}/weights.log",
    params:
        scale=dag.scale,
    priority: 100
    message:
        "find the pretrained models of scale {params.scale}"
    shell:
        "python -m methods weights --scale {params.scale} --out {output} 2>&1 | tee {log}"


rule fit:
    input:
        weights=ancient(dag.weights_of_fit),
        data=f"{dag.prepared}/manifest.json",
        shards=ancient(dag.shards),
        upstream=dag.upstream,
    output:
        f"{dag.root}/stages/{{stage}}/seed{{seed}}/manifest.json",
    log:
        f"{dag.logs}/fit/{{stage}}-seed{{seed}}.log",
    params:
        run=dag.fit_arguments,
        code=dag.fit_code,
        nodes=needs.one_node,
    threads: dag.threads_of_fit
    resources:
        gpu=dag.gpus_of_fit,
        nodes=1,
        mem_mb=needs.memory("fit", dag.scale),
        runtime=needs.minutes("fit", dag.scale),
        attempt=needs.attempt,
    retries: needs.ATTEMPTS - 1
    priority: dag.fit_priority
    message:
        "fit {wildcards.stage}, seed {wildcards.seed}"
    shell:
        "python -m pipeline alone --gpus {resources.gpu} --attempt {resources.attempt} {log}.lock python -m methods fit {params.run} --seed {wildcards.seed} --threads {threads} --processes {resources.gpu} 2>&1 | tee -a {log}"


rule generate:
    input:
        weights=ancient(dag.weights_of_generate),
        data=f"{dag.prepared}/manifest.json",
        shards=ancient(dag.test_shards),
        stages=dag.stages_of,
        outside=dag.outside_meshes,
    output:
        f"{dag.root}/generated/{{method}}/{{variant}}/seed{{seed}}/generate.jsonl",
    log:
        f"{dag.logs}/generate/{{method}}-{{variant}}-seed{{seed}}.log",
    params:
        run=dag.generate_arguments,
        resolved=dag.generate_params,
        code=dag.generate_code,
    threads: 1
    resources:
        gpu=dag.gpus_of_generate,
        mem_mb=needs.memory("generate", dag.scale),
        runtime=needs.minutes("generate", dag.scale),
        attempt=needs.attempt,
    retries: needs.ATTEMPTS - 1
    priority: 5
    message:
        "generate {wildcards.method}/{wildcards.variant}, seed {wildcards.seed}"
    shell:
        "python -m pipeline alone --gpus {resources.gpu} --attempt {resources.attempt} {log}.lock python -m methods generate {params.run} --seed {wildcards.seed} --threads {threads} 2>&1 | tee -a {log}"
