//! Compiles the CUDA kernels and the shims over cuDNN, when the feature `cuda` asks for them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::build();
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::path::{Path, PathBuf};

    const FOLDER: &str = "cuda/kernels";
    const CUDA_HOME: &str = match option_env!("CUDA_HOME") {
        Some(folder) => folder,
        None => "/usr/local/cuda",
    };
    const CUDNN_INCLUDE: &str = env!("CUDNN_INCLUDE", "CUDNN_INCLUDE names the folder of cuDNN's and cudnn-frontend's headers");
    /// The GPU to compile for (`90`), as candle's own kernels have it.
    const COMPUTE_CAP: &str = match option_env!("CUDA_COMPUTE_CAP") {
        Some(capability) => capability,
        None => "90",
    };

    pub fn build() {
        println!("cargo::rerun-if-changed={FOLDER}");
        kernels();
        shims();
        println!("cargo::rustc-link-search=native={CUDA_HOME}/lib64");
        println!("cargo::rustc-link-lib=dylib=cudart");
        println!("cargo::rustc-link-lib=dylib=cudnn");
    }

    fn kernels() {
        cc::Build::new()
            .cuda(true)
            .cudart("none") // linked above, the shared one that candle links too
            .no_default_flags(true)
            .flag("-std=c++20")
            .flag("-O3")
            .flag(format!("-gencode=arch=compute_{COMPUTE_CAP},code=[sm_{COMPUTE_CAP},compute_{COMPUTE_CAP}]"))
            .flag("-Xcompiler=-fPIC")
            .files(sources("cu"))
            .compile("atelier_kernels");
    }

    fn shims() {
        cc::Build::new()
            .cpp(true)
            .std("c++20")
            .opt_level(1) // it builds graphs once per shape, and its headers take half a minute as it is
            .flag("-isystem")
            .flag(CUDNN_INCLUDE)
            .flag("-isystem")
            .flag(format!("{CUDA_HOME}/include"))
            .files(sources("cpp"))
            .compile("atelier_shims");
    }

    fn sources(extension: &str) -> Vec<PathBuf> {
        let folder = Path::new(FOLDER).read_dir().expect("the kernels lie beside this script");
        let mut files: Vec<_> = folder.map(|entry| entry.expect("a readable folder").path()).collect();
        files.retain(|file| file.extension().is_some_and(|found| found == extension));
        files.sort();
        files
    }
}
