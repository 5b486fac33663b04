//! Values and counters, on every engine.

use std::time::Duration;

use ferrokit::{ErrorKind, SetOptions, Swap, Ttl, Update};

use crate::common::{Case, on_every_engine, text};

on_every_engine!(
    values_come_back_as_they_were,
    set_has_the_options_of_redis,
    counters_count_and_refuse_what_is_none,
    parts_of_strings_are_read_and_written,
    a_swap_needs_the_expected_value,
    an_update_is_of_the_present_value,
);

fn values_come_back_as_they_were(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let values: [&[u8]; 5] = [b"", b"text", b"\xFF\xFE", &[0xF8; 3], &[7; 70_000]];
        for value in values {
            kv.set("k", value).await.unwrap();
            assert_eq!(kv.get(b"k").await.unwrap().unwrap(), value);
        }
        assert_eq!(kv.get("absent").await.unwrap(), None);
        assert_eq!(kv.get_del("k").await.unwrap().unwrap(), [7; 70_000][..]);
        assert_eq!(kv.get_del("k").await.unwrap(), None);
        kv.set(vec![0, 255], String::from("owned")).await.unwrap();
        assert_eq!(text(kv.get([0, 255]).await.unwrap()).unwrap(), "owned");
    });
}

fn set_has_the_options_of_redis(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let set = async |value: &str, options| kv.set_with("k", value, options).await.unwrap();
        assert!(!set("0", SetOptions::new().if_present()).await.is_set);
        assert!(set("1", SetOptions::new().if_absent()).await.is_set);
        let refused = set("2", SetOptions::new().if_absent().get()).await;
        assert_eq!((refused.is_set, text(refused.previous)), (false, Some("1".to_owned())));
        let minute = Duration::from_secs(60);
        let replaced = set("3", SetOptions::new().if_present().get().expire_in(minute)).await;
        assert_eq!((replaced.is_set, text(replaced.previous)), (true, Some("1".to_owned())));
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(minute));
        assert_eq!(set("4", SetOptions::new().keep_ttl()).await.previous, None);
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(minute));
        set("5", SetOptions::new().expire_at(kv.now().plus(5))).await;
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(Duration::from_millis(5)));
        set("6", SetOptions::new()).await;
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Forever);
    });
}

fn counters_count_and_refuse_what_is_none(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        assert_eq!(kv.incr("n").await.unwrap(), 1);
        assert_eq!(kv.incr_by("n", 41).await.unwrap(), 42);
        assert_eq!(kv.decr("n").await.unwrap(), 41);
        kv.set("n", i64::MAX.to_string()).await.unwrap();
        let kind = async |key: &str| kv.incr(key).await.unwrap_err().kind();
        assert_eq!(kind("n").await, ErrorKind::Overflow);
        kv.set("word", "seven").await.unwrap();
        assert_eq!(kind("word").await, ErrorKind::NotAnInteger);
        let float = async |key: &str, by: f64| kv.incr_by_float(key, by).await;
        assert_eq!(float("f", 0.1).await.unwrap(), 0.1);
        assert_eq!(float("f", 0.2).await.unwrap(), 0.3);
        assert_eq!(text(kv.get("f").await.unwrap()).unwrap(), "0.3");
        assert_eq!(float("word", 1.0).await.unwrap_err().kind(), ErrorKind::NotAFloat);
        assert_eq!(float("f", f64::NAN).await.unwrap_err().kind(), ErrorKind::NotAFloat);
        assert_eq!(float("f", f64::INFINITY).await.unwrap_err().kind(), ErrorKind::NotFinite);
        assert_eq!(text(kv.get("f").await.unwrap()).unwrap(), "0.3");
    });
}

fn parts_of_strings_are_read_and_written(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        assert_eq!(kv.append("s", "hello").await.unwrap(), 5);
        assert_eq!(kv.append("s", " world").await.unwrap(), 11);
        assert_eq!(kv.strlen("s").await.unwrap(), 11);
        assert_eq!(kv.strlen("absent").await.unwrap(), 0);
        assert_eq!(kv.get_range("s", -5, -1).await.unwrap(), "world");
        assert_eq!(kv.get_range("absent", 0, -1).await.unwrap(), "");
        assert_eq!(kv.set_range("s", 6, "there").await.unwrap(), 11);
        assert_eq!(kv.set_range("s", 13, "!").await.unwrap(), 14);
        assert_eq!(text(kv.get("s").await.unwrap()).unwrap(), "hello there\0\0!");
        let too_long = kv.set_range("s", usize::MAX, "x").await.unwrap_err();
        assert_eq!(too_long.kind(), ErrorKind::TooLong);
    });
}

fn a_swap_needs_the_expected_value(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let swap = async |expected: Option<&str>, new: Option<&str>| {
            let (expected, new) = (expected.map(str::as_bytes), new.map(str::as_bytes));
            kv.compare_and_swap("k", expected, new).await.unwrap()
        };
        assert_eq!(swap(Some("1"), Some("2")).await, Swap::Found(None));
        assert_eq!(swap(None, None).await, Swap::Done);
        assert_eq!(swap(None, Some("1")).await, Swap::Done);
        assert_eq!(swap(None, Some("2")).await, Swap::Found(Some("1".into())));
        kv.expire("k", Duration::from_secs(9)).await.unwrap();
        assert_eq!(swap(Some("1"), Some("2")).await, Swap::Done);
        assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(Duration::from_secs(9)));
        assert_eq!(swap(Some("2"), None).await, Swap::Done);
        assert!(!kv.exists("k").await.unwrap());
    });
}

fn an_update_is_of_the_present_value(case: &Case) {
    let kv = &case.kv;
    case.wait(async {
        let at = kv.now().plus(1000);
        let double = |value: Option<&[u8]>| match value {
            Some([b'x', ..]) => Update::Delete,
            Some(value) if value.len() < 4 => Update::set([value, value].concat()),
            Some(_) => Update::Keep,
            None => Update::SetUntil("a".into(), at),
        };
        for expected in ["a", "aa", "aaaa", "aaaa"] {
            assert_eq!(text(kv.update("k", double).await.unwrap()).unwrap(), expected);
            assert_eq!(kv.ttl("k").await.unwrap(), Ttl::Left(Duration::from_secs(1)));
        }
        kv.set("k", "x").await.unwrap();
        assert_eq!(kv.update("k", double).await.unwrap(), None);
        assert!(!kv.exists("k").await.unwrap());
    });
}
