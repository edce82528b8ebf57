rule train:
    input:
        unless_made_of("train"),
        embeddings=embeddings,
        manifest=there("train", MANIFEST),
        skipped=there("train", f"{BACKBONE_RESULTS}/skipped.tsv"),
        tuned_on=tuned_on,
        unlabelled=pseudo_labelled(UNLABELLED),
        corrections=pseudo_labelled(f"{DATASET_RESULTS}/applied_corrections.tsv"),
        nested=nested,
    output:
        head=f"{RESULTS}/head.npz",
        label_map=f"{RESULTS}/label_map.txt",
        out_of_fold=f"{RESULTS}/out_of_fold.npz",
        groups=f"{RESULTS}/groups.tsv",
        fingerprint=f"{RESULTS}/.train",
    log:
        f"{LOGS}/{{backbone}}/{{recipe}}/train.log",
    conda:
        "../envs/retrain.yaml"
    threads: 4
    params:
        fingerprint=fingerprint("train"),
        max_skipped=SETTINGS.max_skipped,
        training=lambda wildcards: PLAN.recipes[wildcards.recipe],
        seed=lambda wildcards: PLAN.fingerprints.seed(wildcards.recipe),
        none=bool(SETTINGS.none),
    script:
        "../../scripts/train.py"


rule serialize:
    input:
        unless_made_of("serialize"),
        extractor=extractor,
        head=rules.train.output.head,
    output:
        model=f"{RESULTS}/retrained_model{{twin}}.tflite",
        fingerprint=f"{RESULTS}/.serialize{{twin}}",
    log:
        f"{LOGS}/{{backbone}}/{{recipe}}/serialize{{twin}}.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("serialize"),
        resize=SETTINGS.resize,
    script:
        "../../scripts/serialize.py"


rule evaluate:
    input:
        unless_made_of("evaluate"),
        photos=photos_for("evaluate"),
        model=f"{RESULTS}/retrained_model{PLAN.twin}.tflite",
        head=rules.train.output.head,
        out_of_fold=rules.train.output.out_of_fold,
        embeddings=embeddings,
        manifest=there("evaluate", MANIFEST),
    output:
        predictions=f"{RESULTS}/predictions.tsv",
        evaluation=f"{RESULTS}/evaluation.json",
        fingerprint=f"{RESULTS}/.evaluate",
    log:
        f"{LOGS}/{{backbone}}/{{recipe}}/evaluate.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    threads: 1
    resources:
        edgetpu=0 if PLAN.device == "cpu" else 1,
    params:
        fingerprint=fingerprint("evaluate"),
        device=PLAN.device,
        resize=SETTINGS.resize,
        test_dataset=lambda wildcards: PLAN.test_dataset,
        strangers=lambda wildcards: PLAN.strangers,
    script:
        "../../scripts/evaluate.py"


# A rule of its own, so that the slow drawing runs in parallel with the report.
rule plot_confusion_matrix:
    input:
        unless_made_of("plot_confusion_matrix"),
        evaluation=rules.evaluate.output.evaluation,
    output:
        picture=report(
            f"{RESULTS}/confusion_matrix.png",
            category="Evaluation",
            caption="../report/confusion_matrix.rst",
        ),
        fingerprint=f"{RESULTS}/.plot_confusion_matrix",
    log:
        f"{LOGS}/{{backbone}}/{{recipe}}/plot_confusion_matrix.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("plot_confusion_matrix"),
    script:
        "../../scripts/plot_confusion_matrix.py"
