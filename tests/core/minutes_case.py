"""A meeting with two matters, one with everything that minutes can say."""

from __future__ import annotations

from service.core.minutes import Attendance, Gate, Item, Minutes, Person, Stance, Task

FIRST, SECOND = "review-1", "review-2"
SECRET = "齐鲁生物医药"


def land() -> Item:
    return Item(
        review_id=FIRST,
        number="YS202611230000421-1",
        kind="enterprise_problem",
        enterprise="济南明湖精密机械有限公司",
        subject="二期厂房用地指标",
        matter="land_use",
        state="decided",
        decision="approve_with_conditions",
        asked="企业二期项目因用地指标不足未能开工，请求协调解决26.5亩工业用地指标",
        considered="会议听取了情况汇报，企业代表陈述意见后离席",
        text="在全市年度新增建设用地计划中统筹调剂26.5亩用地指标，按程序公开出让",
        conditions="企业须在供地后6个月内开工",
        stances=(
            Stance("市自然资源和规划局", "agree", "指标可由历城区节余部分调剂", "《土地管理法》第二十三条"),
            Stance("市司法局", None),
        ),
        gates=(Gate("competence", "passed"), Gate("legality", "waived", "不属于重大行政决策")),
        votes={"for": ("市自然资源和规划局",), "against": ("市财政局",), "abstain": ()},
        dissents=({"unit": "市财政局", "text": "亩均税收标准偏低"},),
        recused=({"unit": "历下区政府", "name": "孙伟", "reason": "其亲属在该企业任职"},),
        measures=(
            Task(
                title="完成26.5亩用地指标调剂并报批",
                owner="natural_resources",
                owner_title="市自然资源和规划局",
                due_on="2026-12-15",
                co_units=("历下区政府",),
                deliverable="指标调剂批复",
                quantity="26.5亩",
            ),
        ),
        legal_grounds=("《土地管理法》第二十三条",),
    )


def waste() -> Item:
    return Item(
        review_id=SECOND,
        number="YS202611230000517-1",
        kind="enterprise_problem",
        enterprise="山东齐鲁生物医药有限公司",
        subject="危险废物转移审批",
        state="postponed",
        decision="postpone",
        text="请市生态环境局补充专家评审意见",
        postponed_to="2026-12-04",
    )


def document(*items: Item) -> Minutes:
    return Minutes(
        meeting="HY2026110001",
        tier=1,
        held_at="2026-11-20T09:30:00+08:00",
        place="市企业服务中心第二会议室",
        mark="市企业服务中心“一事一议”会议纪要",
        office="市企业服务中心",
        series="centre",
        title="关于企业诉求“一事一议”有关事项的会议纪要",
        attendance=Attendance(
            chair=Person("张建国", "市企业服务中心", "主任"),
            recorder=Person("李喆", "市企业服务中心", "秘书"),
            present=(Person("王丽", "市自然资源和规划局", "副局长"), Person("刘昇堃", "市财政局", substitute="赵玥")),
            absent=(Person("周敏", "市司法局", "副局长", reason="公务出差"),),
        ),
        items=items or (land(), waste()),
        quorum=True,
    )
