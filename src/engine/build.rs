//! Compiles the CUDA kernels and the attention shim, when the feature `cuda` asks for them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::build();
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::{env, path::Path};

    const FOLDER: &str = "cuda/kernels";

    pub fn build() {
        println!("cargo::rerun-if-changed={FOLDER}");
        for variable in ["CUDA_HOME", "CUDNN_INCLUDE", "CUDA_COMPUTE_CAP"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        kernels();
        attention();
        println!("cargo::rustc-link-search=native={}/lib64", cuda_home());
        println!("cargo::rustc-link-lib=dylib=cudart");
        println!("cargo::rustc-link-lib=dylib=cudnn");
    }

    /// For the GPU that `CUDA_COMPUTE_CAP` names (`90`), as candle's own kernels.
    fn kernels() {
        let capability = env::var("CUDA_COMPUTE_CAP").unwrap_or_else(|_| "90".into());
        cc::Build::new()
            .cuda(true)
            .cudart("none") // linked above, the shared one that candle links too
            .no_default_flags(true)
            .flag("-std=c++20")
            .flag("-O3")
            .flag(format!("-gencode=arch=compute_{capability},code=[sm_{capability},compute_{capability}]"))
            .flag("-Xcompiler=-fPIC")
            .files(sources("cu"))
            .compile("atelier_kernels");
    }

    fn attention() {
        let cudnn = env::var("CUDNN_INCLUDE").expect("CUDNN_INCLUDE names the folder of cuDNN's and cudnn-frontend's headers");
        cc::Build::new()
            .cpp(true)
            .std("c++20")
            .opt_level(1) // it builds graphs once per shape, and its headers take half a minute as it is
            .flag("-isystem")
            .flag(&cudnn)
            .flag("-isystem")
            .flag(format!("{}/include", cuda_home()))
            .files(sources("cpp"))
            .compile("atelier_attention");
    }

    fn cuda_home() -> String {
        env::var("CUDA_HOME").unwrap_or_else(|_| "/usr/local/cuda".into())
    }

    fn sources(extension: &str) -> Vec<std::path::PathBuf> {
        let folder = Path::new(FOLDER).read_dir().expect("the kernels lie beside this script");
        let mut files: Vec<_> = folder.map(|entry| entry.expect("a readable folder").path()).collect();
        files.retain(|file| file.extension().is_some_and(|found| found == extension));
        files.sort();
        files
    }
}
