# Rows and YAML -> tables and figures: one rule for each artefact of pipeline/artefacts.py, which says how to add another.

for artefact in ARTEFACTS.values():

    rule:
        name:
            artefact.name
        input:
            dag.rows(artefact.name),
        output:
            [report(path, category=artefact.name, labels={"file": Path(path).name}) for path in artefact.paths],
        log:
            f"{dag.logs}/{artefact.name}.log",
        params:
            name=artefact.name,
            run=dag.report_arguments(artefact.name),
            reads=source_hash(*(f"reports/{file}" for file in artefact.reads)),
            labels=dag.report_labels(artefact.name),
            code=source_hash(*dag.REPORT_CODE, *artefact.code),
        resources:
            gpu=dag.gpus_of_report(artefact.name),
        localrule: True
        message:
            f"{artefact.name}: {dag.description(artefact.name)}"
        shell:
            "python -m pipeline alone --gpus {resources.gpu} {log}.lock python -m reports {params.name} {params.run} --rows {input} --out {output[0]} 2>&1 | tee {log}"


rule everything:
    input:
        [path for artefact in ARTEFACTS.values() for path in artefact.paths],
    output:
        EVERYTHING,
    log:
        f"{dag.logs}/everything.log",
    message:
        f"all tables and figures: dataset {dag.dataset}, scale {dag.scale}"
    shell:
        "python -m reports all --files {input} --out {output} 2>&1 | tee {log}"
