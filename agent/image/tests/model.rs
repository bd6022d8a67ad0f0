//! Takes thousands of modules apart and puts them together again, next to a model of what
//! instantiation does with data segments.
#![cfg(feature = "split")]

use std::fs::File;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};
use warmstep_image::{Image, MAX_RUNS};
use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, DataCountSection, DataSection, EntityType, Function,
    FunctionSection, GlobalType, ImportSection, MemorySection, MemoryType, Module, NameMap,
    NameSection, TypeSection, ValType,
};
use wasmparser::{DataKind, Operator, Parser, Payload};

/// The value of the global that modules import.
const GLOBAL: u32 = 300;

/// How many modules are tried, unless the environment says otherwise.
const MODULES: u64 = 3_000;

const PAGE: u64 = 65_536;

/// Where a data segment goes.
#[derive(Clone, Debug)]
enum Place {
    Passive,
    Constant { memory: u32, offset: u32 },
    Global,
}

/// What a module is made of.
#[derive(Clone, Debug)]
struct Spec {
    imported: bool,
    /// Pages of the memories.
    memories: Vec<u64>,
    segments: Vec<(Place, Vec<u8>)>,
    counted: bool,
    names: bool,
}

/// Numbers that are as good as random, and the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Marsaglia's xorshift64.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn byte(&mut self) -> u8 {
        let [byte, ..] = self.roll(256).to_le_bytes();
        byte
    }

    fn small(&mut self, sides: u32) -> u32 {
        u32::try_from(self.roll(sides.into())).expect("it is smaller than the sides")
    }
}

impl Spec {
    fn random(dice: &mut Dice) -> Self {
        let memories: Vec<u64> = (0..=dice.roll(5) / 4).map(|_| dice.roll(20)).collect();
        let scattered = dice.roll(8) == 0;
        let count = if scattered { 400 } else { dice.roll(12) };
        let segments = (0..count)
            .map(|_| {
                let length = if scattered { 1 } else { [0, 3, 100, 9_000][dice.small(4) as usize] };
                let zeros = dice.roll(4) == 0;
                let byte = |dice: &mut Dice| if zeros { 0 } else { dice.byte() };
                let bytes = (0..length).map(|_| byte(dice)).collect();
                (Self::place(dice, &memories), bytes)
            })
            .collect();
        Self {
            imported: dice.roll(8) == 0,
            memories,
            segments,
            counted: dice.roll(2) == 0,
            names: dice.roll(2) == 0,
        }
    }

    fn place(dice: &mut Dice, memories: &[u64]) -> Place {
        let last = u32::try_from(memories.len() - 1).expect("there are two at most");
        match dice.roll(40) {
            0 | 1 => Place::Passive,
            2 => Place::Global,
            3 => Place::Constant { memory: last, offset: dice.small(u32::MAX) },
            4 => Place::Constant { memory: last, offset: dice.small(4096) },
            // Close together, so that they overlap.
            5..=20 => Place::Constant { memory: 0, offset: dice.small(12_000) },
            _ => {
                let end =
                    u32::try_from(memories[0] * PAGE).expect("there are twenty pages at most");
                Place::Constant { memory: 0, offset: dice.small(end.max(1)) }
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut module = Module::new();
        let mut types = TypeSection::new();
        types.ty().function([], []);
        module.section(&types);
        let memory = |pages: u64| MemoryType {
            minimum: pages,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        };
        let mut imports = ImportSection::new();
        let global = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
        imports.import("env", "global", EntityType::Global(global));
        let mut own = MemorySection::new();
        for (number, pages) in self.memories.iter().enumerate() {
            if self.imported && number == 0 {
                imports.import("env", "memory", EntityType::Memory(memory(*pages)));
            } else {
                own.memory(memory(*pages));
            }
        }
        module.section(&imports);
        let mut functions = FunctionSection::new();
        functions.function(0);
        module.section(&functions);
        module.section(&own);
        let count = u32::try_from(self.segments.len()).expect("there are few");
        if self.counted {
            module.section(&DataCountSection { count });
        }
        module.section(&self.code(count));
        let mut data = DataSection::new();
        for (place, bytes) in &self.segments {
            let bytes = bytes.iter().copied();
            match place {
                Place::Passive => data.passive(bytes),
                Place::Global => data.active(0, &ConstExpr::global_get(0), bytes),
                Place::Constant { memory, offset } => {
                    data.active(*memory, &ConstExpr::i32_const(offset.cast_signed()), bytes)
                }
            };
        }
        module.section(&data);
        if self.names {
            let mut functions = NameMap::new();
            functions.append(0, "somewhere");
            let mut names = NameSection::new();
            names.functions(&functions);
            module.section(&names);
        }
        module.section(&CustomSection { name: ".debug_info".into(), data: (&[1; 999]).into() });
        module.finish()
    }

    /// A function that refers to every segment, where that is allowed.
    fn code(&self, count: u32) -> CodeSection {
        let mut function = Function::new([]);
        if self.counted {
            for segment in 0..count {
                function.instructions().data_drop(segment);
            }
        }
        function.instructions().end();
        let mut code = CodeSection::new();
        code.function(&function);
        code
    }
}

/// Memories while a module is instantiated, and how that goes.
#[derive(PartialEq)]
struct Instance {
    memories: Vec<Vec<u8>>,
    trapped: bool,
}

impl Instance {
    /// Applies a module's data segments, as the specification has it.
    fn new(wasm: &[u8], mut memories: Vec<Vec<u8>>) -> Self {
        for payload in Parser::new(0).parse_all(wasm) {
            let Payload::DataSection(section) = payload.expect("the module is whole") else {
                continue;
            };
            for segment in section {
                let segment = segment.expect("the segment is whole");
                let DataKind::Active { memory_index, offset_expr } = segment.kind else { continue };
                let offset = match offset_expr.get_operators_reader().read().expect("an operator") {
                    Operator::I32Const { value } => value.cast_unsigned(),
                    Operator::GlobalGet { global_index: 0 } => GLOBAL,
                    other => panic!("{other:?} was never generated"),
                };
                let (at, length) = (offset as usize, segment.data.len());
                let memory = &mut memories[memory_index as usize];
                match at.checked_add(length).and_then(|end| memory.get_mut(at..end)) {
                    Some(place) => place.copy_from_slice(segment.data),
                    None => return Self { memories, trapped: true },
                }
            }
        }
        Self { memories, trapped: false }
    }
}

/// What the image puts into a new memory of so many bytes.
fn mapped(image: &Image, length: usize) -> Vec<u8> {
    if length == 0 {
        assert!(image.runs().is_empty());
        return Vec::new();
    }
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: the kernel chooses a free place; the pages are used here only, and unmapped below.
    unsafe {
        let base =
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, access, MapFlags::PRIVATE);
        let base = NonNull::new(base.expect("there is room").cast::<u8>()).expect("not at zero");
        image.map_into(base, length).expect("it can be mapped");
        let bytes = std::slice::from_raw_parts(base.as_ptr(), length).to_vec();
        rustix::mm::munmap(base.as_ptr().cast(), length).expect("it was mapped");
        bytes
    }
}

fn validate(wasm: &[u8]) {
    wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
        .validate_all(wasm)
        .expect("the module is valid");
}

/// How many bytes of data are left in a module.
fn left(wasm: &[u8]) -> usize {
    let sections = Parser::new(0).parse_all(wasm).filter_map(Result::ok);
    let segments = sections.filter_map(|payload| match payload {
        Payload::DataSection(section) => Some(section),
        _ => None,
    });
    segments.flatten().map(|segment| segment.expect("it is whole").data.len()).sum()
}

fn bytes(pages: u64) -> usize {
    usize::try_from(pages * PAGE).expect("there are twenty at most")
}

/// Takes a module apart, checks it against the model, and says whether anything was taken out.
fn check(spec: &Spec) -> bool {
    let wasm = spec.encode();
    validate(&wasm);
    let parts = warmstep_image::split::split(&wasm).expect("it is valid");
    validate(&parts.wasm);
    let empty: Vec<Vec<u8>> = spec.memories.iter().map(|pages| vec![0; bytes(*pages)]).collect();
    let mut backed = empty.clone();
    let image = parts.image.as_ref().map(written);
    if let Some(image) = &image {
        assert!(image.runs().len() <= MAX_RUNS);
        let names = image.names().expect("they can be read");
        assert_eq!(names.get(0), spec.names.then_some("somewhere"));
        if !image.runs().is_empty() {
            assert!(!spec.imported, "an imported memory is not ours");
            backed[0] = mapped(image, empty[0].len());
        }
    }
    assert!(image.is_some() || !spec.names, "the names are nowhere");
    let (before, after) = (Instance::new(&wasm, empty), Instance::new(&parts.wasm, backed));
    assert_eq!(before.trapped, after.trapped);
    // Nobody sees the memories of an instance that never was.
    assert!(before.trapped || before == after, "the memories differ");
    image.is_some_and(|image| !image.runs().is_empty())
}

fn written(image: &warmstep_image::split::NewImage) -> Image {
    let file = tempfile::tempfile().expect("there is room");
    image.write(file.as_fd()).expect("there is room");
    Image::open(File::into(file)).expect("it was just made")
}

#[test]
fn every_module_means_the_same_afterwards() {
    let modules = std::env::var("WARMSTEP_MODULES").ok().and_then(|count| count.parse().ok());
    let modules = modules.unwrap_or(MODULES);
    let mut taken = 0;
    for seed in 1..=modules {
        let spec = Spec::random(&mut Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let result = std::panic::catch_unwind(|| check(&spec));
        match result {
            Ok(some) => taken += u64::from(some),
            Err(panic) => {
                eprintln!("module {seed}: {:?}", Spec { segments: Vec::new(), ..spec.clone() });
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(taken > modules / 4, "only {taken} of {modules} modules had anything to take out");
}

fn plain(segments: Vec<(Place, Vec<u8>)>) -> Spec {
    Spec { imported: false, memories: vec![2], segments, counted: true, names: false }
}

fn at(offset: u32, bytes: &[u8]) -> (Place, Vec<u8>) {
    (Place::Constant { memory: 0, offset }, bytes.to_vec())
}

#[test]
fn what_can_be_taken_out_is() {
    let spec = plain(vec![at(0, &[1; 5_000]), at(70_000, &[2; 5_000]), at(0, &[3])]);
    let parts = warmstep_image::split::split(&spec.encode()).expect("it is valid");
    assert_eq!(left(&parts.wasm), 0);
    assert!(check(&spec));
    assert!(parts.wasm.len() < 200, "the debug section is still there");
}

#[test]
fn what_must_stay_stays_and_keeps_what_follows() {
    for stays in [(Place::Global, vec![9; 10]), at(131_070, &[9; 10])] {
        let spec = plain(vec![at(0, &[1; 5_000]), stays, at(299, &[3; 100])]);
        let parts = warmstep_image::split::split(&spec.encode()).expect("it is valid");
        assert_eq!(left(&parts.wasm), 110);
        assert!(check(&spec));
    }
    let spec = plain(vec![(Place::Passive, vec![9; 10]), at(0, &[1; 5_000])]);
    let parts = warmstep_image::split::split(&spec.encode()).expect("it is valid");
    assert_eq!(left(&parts.wasm), 10);
}

#[test]
fn an_imported_memory_keeps_its_data() {
    let spec = Spec { imported: true, ..plain(vec![at(0, &[1; 5_000])]) };
    let parts = warmstep_image::split::split(&spec.encode()).expect("it is valid");
    assert_eq!(left(&parts.wasm), 5_000);
    assert!(parts.image.is_none());
}

#[test]
fn a_byte_a_page_does_not_make_a_large_image() {
    let segments = (0..400).map(|number| at(number * 4_096, &[1])).collect();
    let spec = Spec { memories: vec![30], ..plain(segments) };
    let parts = warmstep_image::split::split(&spec.encode()).expect("it is valid");
    assert_eq!(left(&parts.wasm), 400);
    assert!(parts.image.is_none());
}

#[test]
fn code_stays_where_it_is() {
    let spec = plain(vec![at(0, &[1; 5_000])]);
    let wasm = spec.encode();
    let parts = warmstep_image::split::split(&wasm).expect("it is valid");
    let code = |wasm: &[u8]| {
        let mut sections = Parser::new(0).parse_all(wasm).filter_map(Result::ok);
        sections.find_map(|payload| match payload {
            Payload::CodeSectionStart { range, .. } => Some(range),
            _ => None,
        })
    };
    assert_eq!(code(&wasm), code(&parts.wasm));
}

#[test]
fn an_image_is_not_mapped_where_it_does_not_fit() {
    let spec = plain(vec![at(0, &[1; 5_000])]);
    let parts = warmstep_image::split::split(&spec.encode()).expect("it is valid");
    let image = written(&parts.image.expect("there is data"));
    // SAFETY: nothing is mapped when the length is too small, and this one is.
    let result = unsafe { image.map_into(NonNull::dangling(), 65_536) };
    assert!(result.expect_err("it is too short").to_string().contains("131072"));
}

#[test]
fn an_image_that_is_cut_off_or_damaged_is_refused() {
    let spec = Spec { names: true, ..plain(vec![at(0, &[1; 5_000])]) };
    let parts = warmstep_image::split::split(&spec.encode()).expect("it is valid");
    let whole = tempfile::NamedTempFile::new().expect("there is room");
    parts.image.expect("there is data").write(whole.as_file().as_fd()).expect("there is room");
    let bytes = std::fs::read(whole.path()).expect("it was just made");
    let open = |bytes: &[u8]| {
        let file = tempfile::NamedTempFile::new().expect("there is room");
        std::fs::write(file.path(), bytes).expect("there is room");
        Image::open(File::open(file.path()).expect("it was just made").into())
    };
    assert!(open(&bytes).is_ok());
    for length in [0, 7, 39, 63, 4_095, 4_096, bytes.len() - 1] {
        open(&bytes[..length]).expect_err("it is cut off");
    }
}
