rule report:
    input:
        unless_made_of("report"),
        photos=photos_for("report"),
        predictions=rules.evaluate.output.predictions,
        evaluation=rules.evaluate.output.evaluation,
        groups=rules.train.output.groups,
        head=rules.train.output.head,
        embeddings=embeddings,
        manifest=there("report", MANIFEST),
        unlabelled=there("report", UNLABELLED),
        skipped=there("report", f"{BACKBONE_RESULTS}/skipped.tsv"),
        corrections=there("report", f"{DATASET_RESULTS}/applied_corrections.tsv"),
        models=expand(
            f"{RESULTS}/retrained_model{{twin}}.tflite",
            twin=sorted({"", PLAN.twin}),
            allow_missing=True,
        ),
    output:
        page=report(
            f"{RESULTS}/report.html",
            category="Report",
            caption="../report/report.rst",
        ),
        suspects=f"{RESULTS}/suspects.tsv",
        copies=f"{RESULTS}/copies.tsv",
        fingerprint=f"{RESULTS}/.report",
    log:
        f"{LOGS}/{{backbone}}/{{recipe}}/report.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("report"),
        dataset=DATASET.name,
        settings=reported_settings,
        commands=shown_commands,
        edgetpu_model=edgetpu_model,
        label_lists=lambda wildcards, input: PLAN.label_lists,
    script:
        "../../scripts/report.py"


rule compare:
    input:
        unless_made_of("compare"),
        predictions=of_compared("predictions.tsv"),
        evaluations=of_compared("evaluation.json"),
        models=of_compared("retrained_model.tflite"),
    output:
        table=f"{DATASET_RESULTS}/comparison.json",
        page=report(
            f"{DATASET_RESULTS}/comparison.html",
            category="Report",
            caption="../report/comparison.rst",
        ),
        fingerprint=f"{DATASET_RESULTS}/.compare",
    log:
        f"{LOGS}/compare.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("compare"),
        dataset=DATASET.name,
        entries=[vars(one) for one in PLAN.compared],
    script:
        "../../scripts/compare.py"
