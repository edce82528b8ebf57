rule bundle:
    input:
        unpack(bundled),
        # So that the model at the top is of the same run.
        delivered=rules.deliver.output,
        label_map=f"{RESULTS}/label_map.txt",
        manifest=manifest,
        evaluation=f"{RESULTS}/evaluation.json",
    output:
        folder=directory("bundle"),
        archive="bundle.zip",
    log:
        f"{LOGS}/{BACKBONE.name}/bundle.log",
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/bundle.py"


rule frigate:
    input:
        model=f"{RESULTS}/retrained_model.tflite",
        label_map=f"{RESULTS}/label_map.txt",
        evaluation=f"{RESULTS}/evaluation.json",
        delivered=rules.deliver.output,
    output:
        folder=directory(f"frigate/{FRIGATE}"),
    log:
        f"{LOGS}/{BACKBONE.name}/frigate.log",
    conda:
        "../envs/retrain.yaml"
    params:
        name=FRIGATE,
    script:
        "../../scripts/frigate.py"
