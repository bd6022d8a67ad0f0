//! Decides what is taken out of a module.

use wasmparser::{
    BinaryReaderError, ConstExpr, CustomSectionReader, Data, DataKind, DataSectionReader,
    KnownCustom, MemoryType, Name, Operator, Parser, Payload, TypeRef,
};

use crate::format::{MAX_MEMORY, MAX_RUNS};
use crate::names;
use crate::split::contents::Contents;

/// What is taken out of a module.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Which data segments are, by their index; those beyond the end are not.
    pub(crate) taken: Vec<bool>,
    /// What they put into the memory, if that is worth an image.
    pub(crate) contents: Option<Contents>,
    /// Whether the module counts its data segments before its code, and so may refer to them.
    pub(crate) counted: bool,
    /// The first length of the memory that the contents are for, in bytes.
    pub(crate) memory: u64,
    /// The functions' names, as a table.
    pub(crate) names: Vec<u8>,
}

impl Plan {
    /// Looks through a valid module.
    pub(crate) fn of(wasm: &[u8], page: usize) -> Result<Self, BinaryReaderError> {
        let mut plan = Self::default();
        let mut first = First::None;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if let TypeRef::Memory(_) = import?.ty {
                            first = First::Imported;
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    if let (First::None, Some(memory)) = (&first, section.into_iter().next()) {
                        first = First::Own(memory?);
                    }
                }
                Payload::DataCountSection { .. } => plan.counted = true,
                Payload::DataSection(section) => {
                    if let Some(memory) = first.length() {
                        plan.memory = memory;
                        plan.take(section, page)?;
                    }
                }
                Payload::CustomSection(section) => {
                    if let Some(names) = function_names(&section) {
                        plan.names = names;
                    }
                }
                _ => {}
            }
        }
        if plan.contents.is_none() {
            plan.taken.clear();
        }
        Ok(plan)
    }

    fn take(
        &mut self,
        segments: DataSectionReader<'_>,
        page: usize,
    ) -> Result<(), BinaryReaderError> {
        let mut contents = Contents::new(page);
        for segment in segments {
            let segment = segment?;
            let taken = match what_about(&segment, self.memory)? {
                Verdict::Take(offset) => {
                    contents.put(offset, segment.data);
                    if !contents.are_worth_it() {
                        return Ok(());
                    }
                    true
                }
                Verdict::Leave => false,
                Verdict::LeaveThisAndTheRest => break,
            };
            self.taken.push(taken);
        }
        contents.drop_zeros();
        if contents.runs().len() <= MAX_RUNS && self.taken.contains(&true) {
            self.contents = Some(contents);
        }
        Ok(())
    }
}

/// A module's memory with the index 0.
enum First {
    None,
    Imported,
    Own(MemoryType),
}

impl First {
    /// Its first length in bytes, if its contents may be taken out.
    fn length(&self) -> Option<u64> {
        let Self::Own(memory) = self else { return None };
        let plain = !memory.shared && !memory.memory64 && memory.page_size_log2.is_none();
        let length = memory.initial.checked_mul(WASM_PAGE)?;
        (plain && length <= MAX_MEMORY).then_some(length)
    }
}

/// The unit in which memories grow, in bytes.
const WASM_PAGE: u64 = 65_536;

/// What becomes of a data segment.
enum Verdict {
    /// It goes into the image, at this offset in the memory.
    Take(u64),
    /// It stays, and touches the first memory neither now nor later, unless the module runs.
    Leave,
    /// It stays, and what comes after it might lie above or below it.
    LeaveThisAndTheRest,
}

fn what_about(segment: &Data<'_>, memory: u64) -> Result<Verdict, BinaryReaderError> {
    let offset = match &segment.kind {
        DataKind::Passive => return Ok(Verdict::Leave),
        DataKind::Active { memory_index: 0, offset_expr } => constant(offset_expr)?,
        DataKind::Active { .. } => return Ok(Verdict::Leave),
    };
    let within = |offset: &u64| {
        offset.checked_add(segment.data.len() as u64).is_some_and(|end| end <= memory)
    };
    Ok(offset.filter(within).map_or(Verdict::LeaveThisAndTheRest, Verdict::Take))
}

/// The value of an expression that is nothing but one constant.
fn constant(expression: &ConstExpr<'_>) -> Result<Option<u64>, BinaryReaderError> {
    let mut operators = expression.get_operators_reader();
    let Operator::I32Const { value } = operators.read()? else { return Ok(None) };
    let alone = matches!(operators.read()?, Operator::End);
    // Addresses are unsigned although constants are written with a sign.
    Ok(alone.then_some(u64::from(value.cast_unsigned())))
}

/// The table of the functions' names, if this section has them. A section with damage in it is as
/// good as none: names decide nothing.
fn function_names(section: &CustomSectionReader<'_>) -> Option<Vec<u8>> {
    let KnownCustom::Name(subsections) = section.as_known() else { return None };
    let functions = subsections.into_iter().find_map(|subsection| match subsection {
        Ok(Name::Function(functions)) => Some(functions),
        _ => None,
    })?;
    let named = functions.into_iter().map_while(Result::ok).map(|name| (name.index, name.name));
    Some(names::encode(named)).filter(|table| !table.is_empty())
}
