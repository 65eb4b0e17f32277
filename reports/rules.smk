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
