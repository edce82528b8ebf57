rule embed:
    input:
        manifest=manifest,
        extractor=extractor(device_twin()),
    output:
        # update keeps the earlier file readable: photos that are in it are not embedded again.
        embeddings=update(f"{RESULTS}/embeddings/{{shard}}.npz"),
    log:
        f"{LOGS}/{BACKBONE.name}/embed_{{shard}}.log",
    params:
        device=DEVICE,
    threads: 1
    resources:
        edgetpu=0 if DEVICE == "cpu" else 1,
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/embed.py"
