# Rows and published.yaml -> tables.


rule table2:
    input:
        dag.table2_rows,
    output:
        csv="reports/table2.csv",
        page="reports/table2.md",
        categories="reports/table2_by_category.csv",
    log:
        f"{dag.logs}/table2.log",
    params:
        run=dag.table2_arguments,
        published=source_hash("reports/published.yaml"),
        labels=dag.table2_labels,
        code=source_hash(*dag.REPORT_CODE),
    message:
        "Table 2: {dag.description}"
    shell:
        "python -m reports table2 {params.run} --rows {input} --out {output.csv} 2>&1 | tee {log}"


for figure in FILES:

    rule:
        name:
            figure
        input:
            figures.rows(figure),
        output:
            [f"reports/{file}" for file in FILES[figure]],
        log:
            f"{dag.logs}/{figure}.log",
        params:
            name=figure,
            run=figures.arguments(figure),
            code=figures.code(),
        localrule: True
        message:
            f"{figure}: {dag.description}"
        shell:
            "python -m reports {params.name} {params.run} --rows {input} --out {output[0]} 2>&1 | tee {log}"
