//! Build script of `crates/proto`: compiles the messages of `proto/` with protox (no protoc), and trims the descriptor
//! set that envoy-types ships to what `proto/roots.txt` reaches, without comments and options. Three files go to
//! OUT_DIR: `descriptors.bin`, `tables.rs` (sensitive fields, v2 names) and the Rust code of the compiled messages.
//!
//! Works offline: envoy-types is found among the packages that cargo has already unpacked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::field_descriptor_proto::{Label, Type};
use prost_reflect::prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorProto,
    FileDescriptorSet, MessageOptions,
};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let crate_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let proto_dir = crate_dir.join("../../proto");
    println!("cargo::rerun-if-changed=../../build.rs");
    println!("cargo::rerun-if-changed=../../proto");

    let own = compile(&proto_dir)?;
    generate(own.clone(), &out_dir)?;

    let mut pool = DescriptorPool::decode(fs::read(envoy_types(&crate_dir)?)?.as_slice())?;
    pool.add_file_descriptor_protos(own.file.into_iter().filter(|file| !is_google(file)))?;
    let kept = reach(
        &pool,
        roots(&pool, &fs::read_to_string(proto_dir.join("roots.txt"))?),
    );
    let mut set = trim(&pool, &kept);
    for line in rows(&fs::read_to_string(proto_dir.join("v2_fields.txt"))?) {
        add_v2_field(&mut set, line)?;
    }
    connect(&mut set);
    DescriptorPool::from_file_descriptor_set(set.clone())?;
    fs::write(out_dir.join("descriptors.bin"), set.encode_to_vec())?;
    fs::write(out_dir.join("tables.rs"), tables(&pool, &kept)?)?;
    Ok(())
}

/// The full descriptor set inside the envoy-types package, wherever cargo unpacked it.
fn envoy_types(crate_dir: &Path) -> Result<PathBuf> {
    let platform = format!("--filter-platform={}", env::var("HOST")?);
    let mut last = None;
    for options in [vec!["--offline".to_owned(), platform.clone()], vec![platform]] {
        let mut command = cargo_metadata::MetadataCommand::new();
        command
            .cargo_path(env::var("CARGO")?)
            .manifest_path(crate_dir.join("Cargo.toml"))
            .other_options(options);
        match command.exec() {
            Ok(metadata) => {
                let package = metadata
                    .packages
                    .iter()
                    .find(|package| package.name.as_str() == "envoy-types");
                let manifest = &package
                    .ok_or("envoy-types is not among the dependencies")?
                    .manifest_path;
                return Ok(manifest
                    .with_file_name("src/generated/types.bin")
                    .into_std_path_buf());
            }
            Err(error) => last = Some(error),
        }
    }
    Err(format!("cargo metadata cannot say where envoy-types is: {last:?}").into())
}

fn compile(proto_dir: &Path) -> Result<FileDescriptorSet> {
    let mut files = Vec::new();
    for entry in fs::read_dir(proto_dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(protox::compile(files, [proto_dir])?)
}

fn generate(set: FileDescriptorSet, out_dir: &Path) -> Result<()> {
    prost_build::Config::new()
        .out_dir(out_dir)
        .enable_type_names()
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::envoy_types::pb::google::protobuf")
        .compile_fds(set)?;
    Ok(())
}

fn is_google(file: &FileDescriptorProto) -> bool {
    file.package().starts_with("google.")
}

fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn roots(pool: &DescriptorPool, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows(text) {
        let before = found.len();
        let matches = |name: &str| name == row || (row.ends_with('.') && name.starts_with(row));
        found.extend(
            pool.all_messages()
                .map(|message| message.full_name().to_owned())
                .filter(|name| matches(name)),
        );
        assert!(
            found.len() > before,
            "proto/roots.txt names {row}, which does not exist"
        );
    }
    found
}

/// Full names of the top-level messages and enums that the roots need.
fn reach(pool: &DescriptorPool, roots: Vec<String>) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    let mut queue = VecDeque::from(roots);
    while let Some(name) = queue.pop_front() {
        let Some(message) = pool.get_message_by_name(&name) else {
            continue;
        };
        let top = top_level(message);
        if kept.insert(top.full_name().to_owned()) {
            follow(&top, &mut queue, &mut kept);
        }
    }
    kept
}

fn follow(message: &MessageDescriptor, queue: &mut VecDeque<String>, kept: &mut BTreeSet<String>) {
    for field in message.fields() {
        match field.kind() {
            Kind::Message(target) => queue.push_back(target.full_name().to_owned()),
            Kind::Enum(target) => match target.parent_message() {
                Some(parent) => queue.push_back(parent.full_name().to_owned()),
                None => drop(kept.insert(target.full_name().to_owned())),
            },
            _ => {}
        }
    }
    for child in message.child_messages() {
        follow(&child, queue, kept);
    }
}

fn top_level(message: MessageDescriptor) -> MessageDescriptor {
    match message.parent_message() {
        Some(parent) => top_level(parent),
        None => message,
    }
}

fn trim(pool: &DescriptorPool, kept: &BTreeSet<String>) -> FileDescriptorSet {
    let mut files = Vec::new();
    for file in pool.file_descriptor_protos() {
        let is_kept = |name: &str| kept.contains(&format!("{}.{name}", file.package()));
        let message_type: Vec<_> = file
            .message_type
            .iter()
            .filter(|message| is_kept(message.name()))
            .map(bare_message)
            .collect();
        let enum_type: Vec<_> = file
            .enum_type
            .iter()
            .filter(|e| is_kept(e.name()))
            .map(bare_enum)
            .collect();
        if !message_type.is_empty() || !enum_type.is_empty() {
            files.push(FileDescriptorProto {
                name: file.name.clone(),
                package: file.package.clone(),
                syntax: file.syntax.clone(),
                message_type,
                enum_type,
                ..FileDescriptorProto::default()
            });
        }
    }
    FileDescriptorSet { file: files }
}

/// Without options, reserved ranges and extensions: they are not needed to read or print a message.
fn bare_message(message: &DescriptorProto) -> DescriptorProto {
    let map_entry = message.options.as_ref().is_some_and(MessageOptions::map_entry);
    DescriptorProto {
        name: message.name.clone(),
        field: message.field.iter().map(bare_field).collect(),
        nested_type: message.nested_type.iter().map(bare_message).collect(),
        enum_type: message.enum_type.iter().map(bare_enum).collect(),
        oneof_decl: message
            .oneof_decl
            .iter()
            .map(|oneof| {
                let mut oneof = oneof.clone();
                oneof.options = None;
                oneof
            })
            .collect(),
        options: map_entry.then(|| MessageOptions {
            map_entry: Some(true),
            ..MessageOptions::default()
        }),
        ..DescriptorProto::default()
    }
}

fn bare_field(field: &FieldDescriptorProto) -> FieldDescriptorProto {
    let packed = field.options.as_ref().and_then(|options| options.packed);
    FieldDescriptorProto {
        options: packed.map(|_| FieldOptions {
            packed,
            ..FieldOptions::default()
        }),
        // The usual JSON name is computed when the set is loaded.
        json_name: field
            .json_name
            .clone()
            .filter(|name| *name != lower_camel(field.name())),
        ..field.clone()
    }
}

/// The JSON name that protobuf gives to a field by itself.
fn lower_camel(name: &str) -> String {
    let mut json = String::new();
    let mut after_underscore = false;
    for letter in name.chars() {
        if letter != '_' {
            json.push(if after_underscore {
                letter.to_ascii_uppercase()
            } else {
                letter
            });
        }
        after_underscore = letter == '_';
    }
    json
}

fn bare_enum(descriptor: &EnumDescriptorProto) -> EnumDescriptorProto {
    let mut bare = descriptor.clone();
    let alias = descriptor
        .options
        .as_ref()
        .and_then(|options| options.allow_alias);
    bare.options = alias.map(|_| prost_reflect::prost_types::EnumOptions {
        allow_alias: alias,
        ..prost_reflect::prost_types::EnumOptions::default()
    });
    bare.reserved_range.clear();
    bare.reserved_name.clear();
    bare.value.iter_mut().for_each(|value| value.options = None);
    bare
}

/// A row of `proto/v2_fields.txt`: message, number, name, type.
fn add_v2_field(set: &mut FileDescriptorSet, row: &str) -> Result<()> {
    let columns: Vec<&str> = row.split_whitespace().collect();
    let [message, number, name, kind @ ..] = columns.as_slice() else {
        return Err(row.into());
    };
    let target = find(set, message).ok_or_else(|| format!("proto/v2_fields.txt: no message {message}"))?;
    let mut field = FieldDescriptorProto {
        name: Some(format!("hidden_envoy_deprecated_{name}")),
        number: Some(number.parse()?),
        ..FieldDescriptorProto::default()
    };
    field.set_label(Label::Optional);
    match kind {
        ["map", value] => {
            let entry = format!("HiddenEnvoyDeprecated{}Entry", camel(name));
            target.nested_type.push(map_entry(&entry, value));
            set_type(&mut field, &format!("{message}.{entry}"));
            field.set_label(Label::Repeated);
        }
        [single] => {
            if single.starts_with('*') {
                field.set_label(Label::Repeated);
            }
            set_type(&mut field, single.trim_start_matches('*'));
        }
        _ => return Err(row.into()),
    }
    target.field.push(field);
    Ok(())
}

fn find<'a>(set: &'a mut FileDescriptorSet, full_name: &str) -> Option<&'a mut DescriptorProto> {
    for file in &mut set.file {
        let Some(rest) = full_name
            .strip_prefix(file.package())
            .and_then(|rest| rest.strip_prefix('.'))
        else {
            continue;
        };
        let mut names = rest.split('.');
        let first = names.next()?;
        let Some(top) = file
            .message_type
            .iter_mut()
            .find(|message| message.name() == first)
        else {
            continue;
        };
        return names.try_fold(top, |message, name| {
            message.nested_type.iter_mut().find(|inner| inner.name() == name)
        });
    }
    None
}

fn map_entry(name: &str, value: &str) -> DescriptorProto {
    let column = |name: &str, number: i32, kind: &str| {
        let mut field = FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            ..FieldDescriptorProto::default()
        };
        field.set_label(Label::Optional);
        set_type(&mut field, kind);
        field
    };
    DescriptorProto {
        name: Some(name.to_owned()),
        field: vec![column("key", 1, "string"), column("value", 2, value)],
        options: Some(MessageOptions {
            map_entry: Some(true),
            ..MessageOptions::default()
        }),
        ..DescriptorProto::default()
    }
}

fn set_type(field: &mut FieldDescriptorProto, kind: &str) {
    if kind == "string" {
        field.set_type(Type::String);
    } else {
        field.set_type(Type::Message);
        field.type_name = Some(format!(".{kind}"));
    }
}

fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .collect()
}

/// Gives every file the imports that its fields need, and no others.
fn connect(set: &mut FileDescriptorSet) {
    let mut homes = BTreeMap::new();
    for file in &set.file {
        let types = file.message_type.iter().map(DescriptorProto::name);
        for name in types.chain(file.enum_type.iter().map(EnumDescriptorProto::name)) {
            homes.insert(format!(".{}.{name}", file.package()), file.name().to_owned());
        }
    }
    for file in &mut set.file {
        let mut imports = BTreeSet::new();
        file.message_type
            .iter()
            .for_each(|message| collect_imports(message, &homes, &mut imports));
        imports.remove(file.name());
        file.dependency = imports.into_iter().collect();
    }
}

fn collect_imports(
    message: &DescriptorProto,
    homes: &BTreeMap<String, String>,
    imports: &mut BTreeSet<String>,
) {
    for field in message.field.iter().filter(|field| field.type_name.is_some()) {
        let mut name = field.type_name();
        while !homes.contains_key(name) {
            name = name.rsplit_once('.').map_or("", |(parent, _)| parent);
            assert!(
                !name.is_empty(),
                "{} is not in the trimmed set",
                field.type_name()
            );
        }
        imports.insert(homes[name].clone());
    }
    message
        .nested_type
        .iter()
        .for_each(|inner| collect_imports(inner, homes, imports));
}

fn tables(pool: &DescriptorPool, kept: &BTreeSet<String>) -> Result<String> {
    let mut sensitive = BTreeSet::new();
    let mut previous = BTreeMap::new();
    for message in pool
        .all_messages()
        .filter(|message| kept.contains(top_level(message.clone()).full_name()))
    {
        let fields = message.fields().filter(is_sensitive);
        sensitive.extend(fields.map(|field| field.full_name().to_owned()));
        if let (None, Some(old)) = (message.parent_message(), previous_name(&message)) {
            previous.insert(old, message.full_name().to_owned());
        }
    }
    let mut text = String::new();
    writeln!(
        text,
        "/// Fields that carry `udpa.annotations.sensitive`, by full name, sorted."
    )?;
    writeln!(
        text,
        "pub(crate) const SENSITIVE: &[&str] = &{:#?};",
        sensitive.iter().collect::<Vec<_>>()
    )?;
    writeln!(
        text,
        "/// Name before v3 and name in v3 (`udpa.annotations.versioning`), sorted by the former."
    )?;
    writeln!(
        text,
        "pub(crate) const PREVIOUS: &[(&str, &str)] = &{:#?};",
        previous.iter().collect::<Vec<_>>()
    )?;
    Ok(text)
}

fn is_sensitive(field: &FieldDescriptor) -> bool {
    let pool = field.parent_message().parent_pool();
    let extension = pool.get_extension_by_name("udpa.annotations.sensitive");
    extension.is_some_and(|extension| field.options().get_extension(&extension).as_bool() == Some(true))
}

fn previous_name(message: &MessageDescriptor) -> Option<String> {
    let extension = message
        .parent_pool()
        .get_extension_by_name("udpa.annotations.versioning")?;
    let options = message.options();
    let value = options.get_extension(&extension);
    let versioning: &DynamicMessage = value.as_message()?;
    let name = versioning
        .get_field_by_name("previous_message_type")?
        .as_str()?
        .to_owned();
    (!name.is_empty()).then_some(name)
}
