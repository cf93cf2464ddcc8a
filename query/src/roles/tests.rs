use super::*;

fn user(text: &str) -> Result<RoleTable, String> {
    parse::table(&[("mine.toml", text), ("roles.toml", SHIPPED_TEXT)])
}

#[test]
fn the_shipped_table_is_valid_and_every_role_has_a_source() {
    let table = RoleTable::shipped().unwrap();
    assert!(table.rows.len() > 450, "{}", table.rows.len());
    let text: toml::Table = SHIPPED_TEXT.parse().unwrap();
    for (role, definition) in text["roles"].as_table().unwrap() {
        let is_given = |row: &Row| row.role == *role || row.rate.as_ref().is_some_and(|rate| rate.role == *role);
        assert!(table.definitions[role].quotient.is_some() || table.rows.iter().any(is_given), "{role} has no source");
        assert!(definition.get("about").is_some(), "{role} is not explained");
    }
}

const OWN: &str = "[[source]]\nname = \"ours\"\nscope = \"device\"\nmetrics = [\n";

#[test]
fn a_users_rows_come_first_and_their_roles_replace() {
    let table = user(&format!(
        "[roles]\n\"gpu.power\" = {{ view = \"gpu\", unit = \"W\", max = 700.0 }}\n{OWN}\
         {{ metric = \"DCGM_FI_DEV_GPU_UTIL\", role = \"gpu.utilization\" }} ]"
    ));
    let table = table.unwrap();
    let first = table.candidates("DCGM_FI_DEV_GPU_UTIL").next().unwrap();
    assert_eq!((&*table.rows[first].source, table.rows[first].conversion), ("ours", Conversion::NONE));
    let power = table.rows.iter().find(|row| row.metric == "nvidia_smi_power_draw_watts").unwrap();
    assert_eq!(power.definition.max, Some(700.0));
}

#[test]
fn a_wrong_row_is_named_with_its_file() {
    for (row, reason) in [
        ("{ metric = \"m\", role = \"gpu.utilisation\" }", "row m → gpu.utilisation: the role is not defined"),
        (
            "{ metric = \"m\", role = \"gpu.power\", unit = \"By\" }",
            "row m → gpu.power: unit By cannot be converted to W",
        ),
        (
            "{ metric = \"m\", role = \"cpu.time\", rate = \"disk.io.rate\" }",
            "row m → cpu.time: its rate has the unit s/s, which cannot be converted to By/s of disk.io.rate",
        ),
        ("{ metric = \"m\", role = \"gpu.power\", scale = 0.0 }", "scale must be a number above 0"),
        ("{ metric = \"*\", role = \"gpu.power\" }", "* may end a metric name"),
        ("{ metric = \"a*b\", role = \"gpu.power\" }", "* may end a metric name"),
        ("{ metric = \"a\", role = \"input.*\" }", "* may end a metric name"),
        ("{ metric = [], role = \"gpu.power\" }", "must not be empty"),
        (
            "{ metric = \"m\", role = \"gpu.power\" }, { metric = \"m\", role = \"gpu.xid\" }",
            "stands above, in row m → gpu.power",
        ),
        ("{ metric = \"a.b\", role = \"gpu.power\" }, { metric = \"a_b_watts\", role = \"gpu.xid\" }", "stands above"),
        ("{ metric = \"m\", rolle = \"gpu.power\" }", "rolle"),
    ] {
        let error = user(&format!("{OWN}{row} ]")).unwrap_err();
        assert!(error.starts_with("mine.toml: ") && error.contains(reason), "{row}: {error}");
    }
    for (role, reason) in [
        ("unit = \"fathom\"", "fathom"),
        ("unit = \"W\", min = 2.0, max = 1.0", "min is above max"),
        (
            "unit = \"By\", rate = \"gpu.power\"",
            "its rate has the unit By/s, which cannot be converted to W of gpu.power",
        ),
        ("unit = \"J\", rate = \"gpu.pow\"", "the role gpu.pow is not defined"),
        ("unit = \"W\", quotient = { of = \"gpu.energy\", per = [] }", "a quotient needs a role to divide by"),
        (
            "unit = \"1\", quotient = { of = \"cpu.time\", per = [\"disk.io\"] }",
            "cpu.time per disk.io has the unit s/By, not 1",
        ),
    ] {
        let error = user(&format!("[roles]\n\"a\" = {{ view = \"gpu\", {role} }}")).unwrap_err();
        assert!(error.contains("role a: ") && error.contains(reason), "{error}");
    }
}

#[test]
fn the_example_of_the_page_is_valid() {
    let page = include_str!("roles_head.md");
    let examples: Vec<_> = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let table = user(examples[0]).unwrap();
    assert_eq!(table.rows[0].conversion, Conversion::NONE);
    let table = user(examples[1]).unwrap();
    assert_eq!(table.rows[0].rate.as_ref().unwrap().role, "pump.speed");
}

#[test]
fn suggestions_are_by_words() {
    let table = RoleTable::shipped().unwrap();
    let check = |metric: &str, role: Option<&str>| {
        let found = advice::suggestion(&table, metric);
        assert_eq!(found.as_deref().and_then(|text| text.split(',').next()), role, "{metric}: {found:?}");
    };
    check("acme_gpu_memory_used_bytes", Some("gpu.memory.used"));
    check("GPUMemoryUsedMax", Some("gpu.memory.used"));
    check("orders_placed", None);
}
