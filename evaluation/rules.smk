# Meshes and ground truth -> rows.


rule score:
    input:
        data=f"{dag.prepared}/manifest.json",
        shards=ancient(dag.test_shards),
        generated=f"{dag.root}/generated/{{method}}/{{variant}}/seed{{seed}}/generate.jsonl",
    output:
        f"{dag.root}/rows/{{protocol}}/{{method}}/{{variant}}/seed{{seed}}.parquet",
    log:
        f"{dag.logs}/score/{{protocol}}-{{method}}-{{variant}}-seed{{seed}}.log",
    params:
        run=dag.score_arguments,
        code=dag.score_code,
    threads: dag.threads_of_score
    resources:
        gpu=dag.gpus_of_score,
        mem_mb=needs.memory("score", dag.scale),
        runtime=needs.minutes("score", dag.scale),
    message:
        "score {wildcards.method}/{wildcards.variant}, seed {wildcards.seed}, under {wildcards.protocol}"
    shell:
        "python -m pipeline alone --gpus {resources.gpu} {log}.lock python -m evaluation rows {params.run} --seed {wildcards.seed} --threads {threads} --out {output} 2>&1 | tee {log}"
