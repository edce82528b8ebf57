rule embed:
    input:
        manifest=manifest,
        extractor=lambda wildcards: extractor(device_twin()),
    output:
        # update keeps the earlier file readable: photos that are in it are not embedded again.
        embeddings=update(f"{RESULTS}/embeddings/{{shard}}.npz"),
    log:
        f"{LOGS}/{BACKBONE.name}/embed_{{shard}}.log",
    conda:
        "../envs/retrain.yaml"
    threads: 1
    resources:
        edgetpu=0 if DEVICE == "cpu" else 1,
    params:
        device=DEVICE,
    script:
        "../../scripts/embed.py"
