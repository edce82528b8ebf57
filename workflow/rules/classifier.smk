rule train:
    input:
        embeddings=EMBEDDINGS,
        manifest=manifest,
        skipped=f"{RESULTS}/skipped.tsv",
    output:
        head=f"{RESULTS}/head.npz",
        label_map=f"{RESULTS}/label_map.txt",
        out_of_fold=f"{RESULTS}/out_of_fold.tsv",
        groups=f"{RESULTS}/groups.tsv",
    log:
        f"{LOGS}/{BACKBONE.name}/train.log",
    conda:
        "../envs/retrain.yaml"
    threads: 4
    params:
        max_skipped=config["max_skipped"],
        training=config["training"],
        seed=config["seed"],
    script:
        "../../scripts/train.py"


rule serialize:
    input:
        extractor=f"{EXTRACTORS}/extractor{{twin}}.tflite",
        head=f"{RESULTS}/head.npz",
        indexed=kept_manifest,
    output:
        model=f"{RESULTS}/retrained_model{{twin}}.tflite",
    log:
        f"{LOGS}/{BACKBONE.name}/serialize{{twin}}.log",
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/serialize.py"


rule evaluate:
    input:
        model=f"{RESULTS}/retrained_model{TWIN}.tflite",
        head=f"{RESULTS}/head.npz",
        out_of_fold=f"{RESULTS}/out_of_fold.tsv",
        embeddings=EMBEDDINGS,
        manifest=manifest,
    output:
        predictions=f"{RESULTS}/predictions.tsv",
        evaluation=f"{RESULTS}/evaluation.json",
    log:
        f"{LOGS}/{BACKBONE.name}/evaluate.log",
    conda:
        "../envs/retrain.yaml"
    threads: 1
    resources:
        edgetpu=0 if DEVICE == "cpu" else 1,
    params:
        device=DEVICE,
        resize=config["resize"],
        test_dataset=config.get("test_dataset"),
        test_listing=TEST_LISTING,
    script:
        "../../scripts/evaluate.py"


# Beside the report, as drawing takes its time.
rule plot_confusion_matrix:
    input:
        evaluation=rules.evaluate.output.evaluation,
        indexed=kept_manifest,
    output:
        picture=report(
            f"{RESULTS}/confusion_matrix.png",
            category="Evaluation",
            caption="../report/confusion_matrix.rst",
        ),
    log:
        f"{LOGS}/{BACKBONE.name}/plot_confusion_matrix.log",
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/plot_confusion_matrix.py"


# The copies at the top are of the dataset and backbone that the configuration names now.
rule deliver:
    input:
        model=f"{RESULTS}/retrained_model.tflite",
        label_map=f"{RESULTS}/label_map.txt",
        evaluation=f"{RESULTS}/evaluation.json",
        report=f"{RESULTS}/report.html",
        picture=rules.plot_confusion_matrix.output.picture,
        head=f"{RESULTS}/head.npz",
        behind=once_counted(functools.partial(behind, "")),
    output:
        model="retrained_model.tflite",
        label_map="label_map.txt",
        report="report.html",
    log:
        f"{LOGS}/{BACKBONE.name}/deliver.log",
    conda:
        "../envs/retrain.yaml"
    params:
        missed=lambda wildcards: times_missed(),
        others={
            f"{RESULTS}/retrained_model_edgetpu.tflite": "retrained_model_edgetpu.tflite",
            f"{RESULTS}/retrained_model.tflite": "bundle/model.tflite",
        },
        with_them={"bundle/model.tflite": ["bundle", "bundle.zip"]},
    script:
        "../../scripts/deliver.py"


rule deliver_edgetpu:
    input:
        twin=rules.deliver.output,
        model=f"{RESULTS}/retrained_model_edgetpu.tflite",
        behind=once_counted(functools.partial(behind, "_edgetpu")),
    output:
        model="retrained_model_edgetpu.tflite",
    log:
        f"{LOGS}/{BACKBONE.name}/deliver_edgetpu.log",
    conda:
        "../envs/retrain.yaml"
    params:
        missed=lambda wildcards: times_missed(),
    script:
        "../../scripts/deliver_edgetpu.py"
